"""Parameters of the step `evaluate`."""

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from graft.params.quantities import THRESHOLD_GOAL, Seed
from graft.params.section import Section


class EvaluateParams(Section):
    """How the model is measured, and how certain the numbers are."""

    bootstrap: int = Field(1000, ge=100, le=1_000_000, description="resamples behind each interval")
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    threshold: str = Field(
        "max_f1",
        pattern=THRESHOLD_GOAL,
        description="two classes: how the threshold is chosen: max_f1 | precision>=0.9 | recall>=0.9 | cost=alarm:miss",
    )
    positive: str | None = Field(None, description="two classes: the positive label; null: the second")
    slices: tuple[str, ...] = Field(
        (), description="columns to slice by; empty: domain, format, size and the manifest's own"
    )
    learning_curve: bool = Field(True, description="false: leave out accuracy by number of labelled images")
    explain: bool = Field(
        True, description="false: leave out where the model looked (Grad-CAM) and the map of the images"
    )
    random_init: bool | Literal["auto"] = Field(
        "auto",
        description="compare with random weights: true, on all images; auto: on a sample, with up to 250 classes",
    )
    seed: Seed = 0

    @field_validator("threshold")
    @classmethod
    def _a_cost(cls, threshold: str) -> str:
        if threshold.startswith("cost=") and not any(map(float, threshold.removeprefix("cost=").split(":"))):
            raise PydanticCustomError("cost", "one of the two costs must be positive")
        return threshold
