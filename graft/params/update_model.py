"""Parameters of the step `update_model`."""

from typing import Annotated, Literal

from pydantic import Field

from graft.params.quantities import Fraction, Penalty, Seed
from graft.params.section import Section


class UpdateModelParams(Section):
    """How new images are added to a model that exists, see `graft.continual`."""

    model: str = Field(
        "models:/graft-digits@champion", description="models:/name@alias, models:/name/version, or a bundle's folder"
    )
    name: str = Field("auto", description="of this experience in the model's history; auto: its number")
    method: Literal["auto", "joint", "lda", "ridge", "replay", "naive"] = Field(
        "auto",
        description="joint: fit to all images again, from earlier features; lda, ridge: exactly, from the memory; "
        "auto: joint with earlier features, else the better of lda and ridge on held-out images; "
        "replay, naive: train the head further, with or without kept features, for comparison",
    )
    features: tuple[str, ...] = Field((), description="folders of the features of all images learnt so far, for joint")
    new_classes: Literal["ask", "allow", "refuse"] = Field(
        "ask", description="ask: stop at a new class whose name is nearly that of a known one; refuse: at any new one"
    )
    penalty: Penalty | Literal["auto"] = Field(
        "auto", description="shrinkage of lda, penalty of ridge; auto: by the log loss of held-out images"
    )
    tolerance: Fraction = Field(
        0.02, description="largest loss of accuracy on an earlier exam: the paired interval must exclude a larger one"
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = Field(0.95, description="of the intervals")
    seed: Seed = Field(0, description="of resampling, and of training a head further")
