"""Parameters of the step `register_model`."""

import posixpath
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from graft.params.section import Section


class RegisterModelParams(Section):
    """The name in the registry, and what a model must achieve to become champion."""

    name: str = Field(
        "auto", max_length=250, description="registered model name; auto: from the data, such as graft-digits"
    )
    promote: bool = Field(True, description="false: leave the new version a challenger")
    metric: Literal["accuracy", "balanced_accuracy", "macro_f1", "auroc", "average_precision"] = Field(
        "accuracy", description="test metric compared with the champion's and the majority baseline's"
    )
    tolerance: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.02,
        description="how far below the champion still counts as equal: the paired interval must exclude a larger drop",
    )
    class_floor: Annotated[float, Field(ge=0.0, le=1.0)] = Field(0.2, description="minimum recall of every class")
    max_ece: Annotated[float, Field(gt=0.0, le=1.0)] = Field(0.25, description="largest expected calibration error")
    decision: Literal["argmax", "threshold"] = Field(
        "argmax",
        description="the answer: the most probable class, or (two classes) the positive one at or above its threshold",
    )
    max_milliseconds: Annotated[float, Field(gt=0.0, le=1e9)] = Field(
        1000.0, description="longest time for one image, as the server measures it, on an otherwise idle machine"
    )

    @field_validator("name")
    @classmethod
    def _a_name_for_mlflow(cls, name: str) -> str:
        # MLflow would refuse it only after training; an @ or a quote could not be addressed or searched for.
        if not name.strip() or not name.isprintable() or any(sign in name for sign in "/:@'\"`"):
            raise PydanticCustomError("name", "is no name for MLflow: expected printable text without / : @ and quotes")
        if posixpath.normpath(name) != name or name.startswith("."):
            raise PydanticCustomError("name", "is no name for MLflow: it is also a part of a path")
        return name
