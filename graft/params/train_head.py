"""Parameters of the step `train_head`."""

from typing import Literal

from pydantic import Field

from graft.params.quantities import THRESHOLD_GOAL, Penalty, Seed
from graft.params.section import Section


class TrainHeadParams(Section):
    """The new output layer on frozen features."""

    reuse_depth: str = Field(
        "auto", description="auto | last | a group's name: the last group of the backbone to reuse"
    )
    head: Literal["auto", "linear", "multi_tap", "mlp", "cosine"] = Field(
        "auto", description="linear: reads one group; multi_tap: several; mlp, cosine; auto: by cross-validation"
    )
    init: Literal["fit", "source_labels"] = Field(
        "fit", description="source_labels: regularise the head towards the source classifier's rows of the same labels"
    )
    source_labels: dict[str, str | tuple[str, ...]] = Field(
        default={}, description="source labels by class, where the names differ"
    )
    l2: Penalty | Literal["auto"] = Field("auto", description="penalty on the weights; auto: cross-validated")
    class_weight: Literal["auto", "balanced", "none"] = Field(
        "auto", description="what counts while fitting; auto: balanced if imbalanced > 1.5x"
    )
    tag_goal: str = Field(
        "max_f1",
        pattern=THRESHOLD_GOAL,
        description="tags: how each threshold is chosen: max_f1 | precision>=0.9 | recall>=0.9 | cost=alarm:miss",
    )
    folds: int = Field(5, ge=2, le=1000, description="folds of the cross-validation")
    memory: bool = Field(True, description="keep statistics of the learnt images, from which make update learns on")
    exam: bool = Field(
        True, description="keep features of validation and test images, on which later updates are examined"
    )
    seed: Seed = Field(0, description="changes which images go into which fold")
