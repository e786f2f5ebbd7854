"""The result of an evaluation, as the report and the promotion gate read it.

The folder that `evaluate` writes contains

- `scores.json`: an `Evaluation`; `key_figures.json`: the numbers that runs are compared by;
- `predictions.parquet`: one row per test and validation image, see `held_out_table`;
- `report.html`, `card.md` and `figures/*.svg`, for people;
- `plots/*.csv`, for other plotting tools;
- of several tasks, `tasks/<task>`: the same of each after the first, but for the page, which shows all.
"""

from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, model_validator

from graft.core.atomic import read_json, write_json
from graft.core.boundary import readable
from graft.core.checksums import check_file
from graft.stats.confidence_intervals import Interval
from graft.stats.model_comparison import Comparison, Outcome
from graft.tasks.kinds import with_task
from graft.tasks.task import Task

SCORES_FILE = "scores.json"
TASKS_FOLDER = "tasks"


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Estimate(_Plain):
    """A number and its interval; null if the images leave it undefined."""

    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, interval: Interval) -> "Estimate":
        """Convert an interval."""
        return cls.model_validate(interval.json())


Scores = dict[str, Estimate]


class ClassScore(_Plain):
    """The scores of one class on test."""

    label: str
    images: int
    correct: int
    predicted: int
    recall: Estimate
    precision: Estimate
    f1: float | None


class ConfusedPair(_Plain):
    """How often images of one class are predicted as another."""

    label: str
    predicted: str
    images: int
    of: int


class PairedComparison(_Plain):
    """The model compared with another one on the same test images."""

    against: str
    differences: Scores
    only_model_right: int
    only_other_right: int
    p_value: float
    """Of equal accuracy, from the test that gives the interval of the accuracy's difference."""
    outcome: Outcome
    detectable: float | None = None
    """The smallest difference of accuracies that a test on these images notices in four of five cases; null in older
    evaluations."""
    images: int | None = None
    """Test images, if it was measured on a sample of them."""
    trained_on: int | None = None
    """Training images, if the other model was fitted to a sample of them."""

    @classmethod
    def of(cls, against: str, comparison: Comparison) -> "PairedComparison":
        """Convert a comparison whose first model is the evaluated one."""
        return cls(
            against=against,
            differences={name: Estimate.of(interval) for name, interval in comparison.differences.items()},
            only_model_right=comparison.only_first_right,
            only_other_right=comparison.only_second_right,
            p_value=comparison.p_value,
            outcome=comparison.outcome,
            detectable=comparison.detectable,
        )


class Calibration(_Plain):
    """Temperature scaling, on test."""

    temperature: float
    """Fitted before the test; above 1 if the model was overconfident."""
    before: Scores
    """ECE, Brier score and log loss of the unscaled logits."""
    after: Scores
    """The same with the temperature."""


class ThresholdScore(_Plain):
    """Two classes: from which probability on to predict the positive one, chosen on validation."""

    positive: str
    goal: str
    threshold: float
    reached: bool
    """Whether the goal was reached on validation."""
    test: Scores
    """Accuracy, precision and recall at the threshold, on test."""


class AbstentionScore(_Plain):
    """The prediction sets and the abstention rule, measured on test."""

    coverage: float
    """How often a set should contain the right class."""
    held: Estimate
    """How often it does."""
    set_size: float
    """Mean number of classes in a set."""
    answered: Estimate
    """Share of images that get an answer."""
    accuracy_answered: Estimate
    """Accuracy on these."""
    foreign: Estimate
    """Share of images flagged as out-of-distribution; ideally none are."""


class SliceScore(_Plain):
    """Scores of test images that share a property."""

    column: str
    value: str
    images: int
    correct: int
    accuracy: Estimate
    p_value: float
    """Probability of an accuracy this low by chance; corrected for the number of slices."""


class LearningScore(_Plain):
    """The learning curve: test accuracy of a head on frozen features by number of training images."""

    points: list[dict[str, float]]
    """`images`, `accuracy`, and `low` and `high` over the draws."""
    advice: str


class CostScore(_Plain):
    """Cost of one image through the network."""

    parameters: int
    megaflops: float
    milliseconds: float
    megabytes: float


class SharedErrors(_Plain):
    """How the mistakes of two tasks fall together, on test images that have a label for both."""

    first: str
    second: str
    images: int
    only_first_wrong: int
    only_second_wrong: int
    both_wrong: int
    expected: float
    """Images with both wrong, if the mistakes were independent."""


class Together(_Plain):
    """Several tasks on the same test images."""

    tasks: tuple[str, ...]
    images: int
    """Test images that have a label for every task."""
    all_right: Estimate
    """Share of these with every answer right."""
    shared_errors: tuple[SharedErrors, ...]


class Evaluation(_Plain):
    """All results of `evaluate`. Names of metrics are those of `metrics.METRICS`."""

    version: Literal[1] = 1
    classes: tuple[str, ...]
    task: SerializeAsAny[Task]
    """What was learnt."""
    positive: str | None = None
    """The positive one of two classes; null if there are more."""
    dataset_digest: str
    images: dict[str, int]
    """By split."""
    confidence: float
    """Of every interval."""
    test: Scores
    undefined: dict[str, str] = {}
    """Why a metric has no value on test, by metric."""
    val: Scores
    head: Scores
    """Of the head on frozen features, on test."""
    baseline: dict[str, Scores]
    comparison: dict[str, PairedComparison]
    per_class: list[ClassScore]
    confusion: list[list[int]]
    """Truth in rows, both in the order of `classes`."""
    most_confused: list[ConfusedPair]
    trained_groups: tuple[str, ...] | None = None
    """Groups of the backbone that were trained further; null if unknown."""
    calibration: Calibration | None = None
    threshold: ThresholdScore | None = None
    trust: AbstentionScore | None = None
    slices: list[SliceScore] = []
    """The worst first."""
    unsliced: dict[str, str] = {}
    """Why a column of the user's is not sliced by, by column."""
    learning: LearningScore | None = None
    efficiency: dict[str, CostScore] = {}
    """Of the `model`, and of the complete `backbone` it was cut from."""
    together: Together | None = Field(None, exclude_if=lambda together: together is None)
    """This task and the others that are asked of the same images; the others have evaluations of their own."""

    @model_validator(mode="before")
    @classmethod
    def _with_task(cls, content: Any) -> Any:
        return with_task(content, "classes")


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write `scores.json` into `folder`."""
    write_json(folder / SCORES_FILE, evaluation.model_dump(mode="json"))


def task_evaluation(folder: Path, task: str) -> Path:
    """Return where the evaluation of a task after the first is, in the folder that `evaluate` writes."""
    return Path(folder) / TASKS_FOLDER / task


def read_evaluation(folder: Path) -> Evaluation:
    """Read `scores.json`.

    Raises:
        GraftError: if it is missing, cannot be read, or differs from its checksum.
    """
    file = Path(folder) / SCORES_FILE
    check_file(file)
    with readable(file, "run evaluate again"):
        return Evaluation.model_validate(read_json(file))


def read_roc(folder: Path) -> tuple[list[float], list[float], list[float]]:
    """Return the ROC curve of two classes: false positive rates, true positive rates and thresholds.

    Raises:
        DamagedError: if it cannot be read, or differs from its checksum.
    """
    file = Path(folder) / "plots" / "roc.csv"
    check_file(file)
    with readable(file, "run evaluate again"):
        curve = pd.read_csv(file)
        rates, found, thresholds = (
            curve[name].astype(float).to_list() for name in ("false_positive_rate", "true_positive_rate", "threshold")
        )
    return rates, found, thresholds
