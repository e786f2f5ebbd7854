"""Parameters of the step `review_features`."""

from pydantic import Field

from graft.params.quantities import Seed
from graft.params.section import Section


class FeatureThresholds(Section):
    """What counts as unusual once features exist."""

    similarity: float = Field(
        0.95,
        gt=0.0,
        le=1.0,
        description="near_duplicate: least correlation of a picture with the part of it that another shows",
    )
    shift: float = Field(
        0.6,
        ge=0.5,
        le=1.0,
        description="shift: AUROC of a classifier between train and a held-out split, lower bound above this",
    )


class ReviewFeaturesParams(Section):
    """What features flag for a person to review."""

    thresholds: FeatureThresholds = FeatureThresholds()
    reference: str | None = Field(
        None, description="features folder of an earlier data version: report how new images differ"
    )
    seed: Seed = Field(0, description="of the forests that measure shift")
