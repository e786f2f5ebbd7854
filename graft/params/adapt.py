"""Parameters of the step `adapt`."""

from typing import Literal

from pydantic import Field

from graft.params.quantities import Seed
from graft.params.section import Section


class AdaptParams(Section):
    """How a model is adapted to another domain, and when it is left alone."""

    domain: str | None = Field(
        None, description="name of the domain; null: the folder's name, or in training every domain with target rows"
    )
    method: Literal["auto", "both", "standardise", "batchnorm", "coral", "label_propagation"] = Field(
        "auto",
        description="both: two views | standardise: features alone | batchnorm | auto: both where possible "
        "| coral, label_propagation: for comparison",
    )
    shift: float = Field(0.6, ge=0.5, le=1.0, description="least lower bound of the AUROC that tells the domains apart")
    class_gap: float = Field(0.31, ge=0.0, le=1.0, description="distance of the class shares from which on to stop")
    agreement_gain: float = Field(0.05, ge=-1.0, le=1.0, description="least gain of the agreement of two views")
    min_images: int = Field(50, ge=20, le=1_000_000, description="fewest images to adapt to")
    max_images: int = Field(2000, ge=20, le=1_000_000, description="most images to adapt to; of more, an even sample")
    seed: Seed = Field(0, description="of the batches for BatchNorm and of the forest that measures the shift")
