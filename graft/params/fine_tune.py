"""Parameters of the step `fine_tune`."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from graft.params.quantities import MOST_IMAGES_AT_ONCE, Fraction, Rate, Seed
from graft.params.section import Section


class AugmentationRanges(Section):
    """The ranges that augmented views are drawn from, uniformly, if `augment` is custom."""

    degrees: Annotated[float, Field(ge=0.0, le=180.0)] = Field(10.0, description="rotation to either side")
    shift: Annotated[float, Field(ge=0.0, le=0.5)] = Field(
        0.08, description="to either side, as a fraction of the image's side"
    )
    zoom: Annotated[float, Field(ge=0.0, le=1.0)] = Field(0.15, description="logarithm of the factor, in or out")
    light: Annotated[float, Field(ge=0.0, le=0.9)] = Field(
        0.2, description="brightness and contrast: from 1 - this to 1 + this"
    )


class FineTuneParams(Section):
    """Which part of the backbone is trained further, and how."""

    enabled: bool = Field(True, description="false: frozen features and the new head are the result")
    strategy: Literal["staged", "upper", "all", "surgical"] = Field(
        "staged",
        description="staged unfreezing | upper: from depth up | all | surgical: the one group that needs it most",
    )
    depth: str = Field(
        "auto", description="the lowest group to train (upper), or to reach (staged); auto: by hyper-rule"
    )
    epochs: Annotated[int, Field(ge=1, le=10_000)] | Literal["auto"] = Field("auto", description="epochs per stage")
    lr: Rate | Literal["auto"] = Field("auto", description="peak learning rate of the top group")
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.7, description="factor of the learning rate from a group to the next lower one"
    )
    weight_decay: Annotated[float, Field(ge=0.0, le=100.0)] = 0.01
    weights: Literal["all", "norms"] = Field(
        "all", description="what of the unfrozen groups is trained: all | norms: only their norms and biases"
    )
    norms: Literal["auto", "frozen", "adapted"] = Field(
        "auto", description="statistics of BatchNorm in the unfrozen groups: frozen | adapted | auto: if not pretrained"
    )
    label_smoothing: Fraction = 0.0
    mixup: Annotated[float, Field(ge=0.0, le=100.0)] = Field(
        0.0, description="mix pairs of images, with a share from Beta(mixup, mixup); 0: none"
    )
    augment: Literal["auto", "none", "light", "strong", "custom"] = "auto"
    custom: AugmentationRanges = AugmentationRanges()
    flip: bool = Field(False, description="whether a mirrored image keeps its label (digits and text do not)")
    batch_size: int = Field(32, ge=2, le=MOST_IMAGES_AT_ONCE, description="images per step")
    budget: str = Field(
        "auto",
        pattern=r"^(auto|none|\d{1,6}(\.\d{1,6})?[smh])$",
        description="most time for stages: 90s | 5m | 1h | none | auto: as much work as 60 passes over the images",
    )
    folds: Annotated[int, Field(ge=0, le=1000)] | Literal["auto"] = Field(
        "auto", description="folds of the cross-validation that judges a stage; 0: use the validation images"
    )
    l2_sp: Annotated[float, Field(ge=0.0, le=1e6)] = Field(
        0.0, description="strength of the pull of the backbone's weights to their start (L2-SP)"
    )
    wise_ft: bool = Field(True, description="choose weights between a stage's start and end by held-out loss (WiSE-FT)")
    refit: bool | Literal["auto"] = Field(
        "auto", description="train the chosen model again on training and validation images; auto: below 5,000"
    )
    seed: Seed = 0

    @field_validator("folds")
    @classmethod
    def _at_least_two(cls, folds: int | str) -> int | str:
        if folds == 1:
            raise ValueError("one fold leaves nothing to train on; use 2 or more, or 0")
        return folds
