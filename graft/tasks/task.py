"""The interface of a task. All code that depends on what is learnt belongs in a task.

A task is a frozen object that is written into every artifact (`kind` and its fields as JSON) and read back by
`kinds.parse_task`. Heads and statistics pass it NumPy arrays, the trainer tensors; a task imports torch only in `loss`,
so that the wings without torch can use it.

Shapes: n images, k outputs. Targets are an array whose first axis is the images; the task decides on its other axes and
its dtype. Logits and probabilities are (n, k).
"""

from abc import ABC, abstractmethod
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict

from graft.stats.decision_rule import Rule
from graft.stats.metrics import Floats, Metric, Values

if TYPE_CHECKING:
    import torch

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Targets = npt.NDArray[Any]
Section = Literal["numbers", "confusion", "labels", "mistakes", "ranking", "curves", "calibration"]
"""Sections of the report that depend on the task; any task has the others (slices, data, costs, how it was made)."""


class Answers(NamedTuple):
    """A task's answers for n images."""

    chosen: Ints
    """Index of each answer in `Task.answer_names`, (n,)."""
    confidence: Values
    """Probability of the answer, (n,)."""


class Part(NamedTuple):
    """One of the tasks that n images are asked at once."""

    task: "Task"
    rows: Bools
    """Which of the images have a label for it (n,)."""
    targets: Targets
    """Of these."""
    outputs: slice
    """Its columns among all logits."""


class LabelFlags(NamedTuple):
    """Which labels n images have, and which the answers name."""

    present: Bools
    """(n, k)"""
    named: Bools
    """(n, k)"""


class Task(BaseModel, ABC):
    """What is learnt from images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    """Name of the class of tasks, see `kinds.register`."""
    name: str = "label"
    """The user's name for the task."""
    labels: tuple[str, ...]
    """Names of the k outputs, in order."""

    exclusive: ClassVar[bool]
    """Whether exactly one label is right for an image, so that its probabilities sum to one. Only such tasks have
    prediction sets, a confusion matrix and, with two classes, a decision threshold."""
    head_kinds: ClassVar[tuple[str, ...]]
    """Kinds of head that can learn it, see `heads.families`; the first is the default."""
    headline: ClassVar[str]
    """The metric to report first."""
    lists_answers: ClassVar[bool] = False
    """Whether an answer is a list of labels, which the column `tags` holds."""
    sections: ClassVar[tuple[Section, ...]]
    """Sections of the report that apply to it."""

    @property
    def outputs(self) -> int:
        """Number of outputs k."""
        return len(self.labels)

    @property
    @abstractmethod
    def answer_names(self) -> tuple[str, ...]:
        """All possible answers, as text."""

    @property
    def categories(self) -> tuple[str, ...]:
        """What answers are counted as where their distribution is compared; the last one stands for all others."""
        return self.answer_names

    def categorised(self, chosen: "Ints") -> "Ints":
        """Return the index in `categories` of answers that `answers` chose, (n,)."""
        return chosen

    @property
    def question(self) -> "Task":
        """The task as the data asks it, without what a model fitted for its answers: models of one are comparable."""
        return self

    # --- from the table

    @abstractmethod
    def targets(self, table: pd.DataFrame) -> Targets:
        """Return the targets of a dataset's rows; see `labelled` for rows without one.

        Raises:
            DataError: if the table lacks a column, or contains a label that the task does not know.
        """

    def labelled(self, targets: Targets) -> Bools:
        """Return which images have a target, (n,); all of them by default."""
        return np.ones(len(targets), dtype=np.bool_)

    def separate(self, targets: Targets) -> tuple[Part, ...]:
        """Return the tasks that this one consists of, each with its labelled images: itself, with all of them."""
        return (Part(self, np.ones(len(targets), dtype=np.bool_), targets, slice(0, self.outputs)),)

    @abstractmethod
    def strata(self, targets: Targets) -> Ints:
        """Return the stratum of every image, (n,): folds, samples and resamples keep the share of each stratum."""

    @abstractmethod
    def names(self, targets: Targets) -> list[str]:
        """Return the right answer for every image as text, empty for one without a target."""

    def counts(self, targets: Targets) -> dict[str, int]:
        """Return how many labelled images have each answer, in the order of `answer_names`."""
        found = Counter(self.names(targets[self.labelled(targets)]))
        return {name: found[name] for name in self.answer_names}

    # --- learning

    @abstractmethod
    def objective(
        self, logits: npt.NDArray[np.float32], targets: Targets, weight: Floats
    ) -> tuple[float, npt.NDArray[np.float32]]:
        """Return the weighted sum of the losses and its gradient by the logits, which may overwrite them.

        Args:
            logits: float32 (n, k).
            targets: of the images.
            weight: (n,).
        """

    @abstractmethod
    def prior_logits(self, targets: Targets, weight: Floats) -> Values:
        """Return the logits (k,) of a model that knows the label frequencies but sees no image."""

    @abstractmethod
    def loss(
        self,
        logits: "torch.Tensor",
        targets: "torch.Tensor",
        *,
        label_weights: "torch.Tensor | None" = None,
        label_smoothing: float = 0.0,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> "torch.Tensor":
        """Return the loss of a batch, differentiable.

        Args:
            logits: (b, k).
            targets: of the images, as `targets` gives them.
            label_weights: (k,); None for all equal. The mean is then over the weights of the images' labels.
            label_smoothing: 0 to below 1.
            reduction: mean over images, or sum.
        """

    def losses(self, logits: Floats, targets: Targets) -> Values:
        """Return the loss of every image, float64 (n,)."""
        return self.log_losses(self.probabilities(logits), targets)

    def imbalance(self, targets: Targets) -> float:
        """Return the frequency of the most frequent label over that of the rarest one; 1.0: there is no imbalance."""
        del targets
        return 1.0

    def label_weights(self, targets: Targets) -> Values:
        """Return weights (k,) that give every label the same total, with a mean of one over the images."""
        del targets
        return np.ones(self.outputs)

    def image_weights(self, targets: Targets, label_weights: Floats) -> Values:
        """Return the weight of every image, (n,)."""
        del label_weights
        return np.ones(len(targets))

    # --- answers

    @abstractmethod
    def probabilities(self, logits: Floats, temperature: float = 1.0) -> Values:
        """Return probabilities float64 (n, k) of logits divided by a temperature."""

    @abstractmethod
    def logits(self, probabilities: Floats) -> Values:
        """Return logits (n, k) that have these probabilities."""

    @abstractmethod
    def log_losses(self, probabilities: Floats, targets: Targets) -> Values:
        """Return the loss of every image, float64 (n,), from probabilities, which are clipped to stay finite."""

    @abstractmethod
    def correct(self, probabilities: Floats, targets: Targets) -> Bools:
        """Return whether the answer without a rule is right, (n,)."""

    def fit_temperature(self, logits: Floats, targets: Targets) -> float:
        """Return the temperature to divide logits by, fitted on images the model has not seen; 1.0: no scaling."""
        del logits, targets
        return 1.0

    def calibrated(self, logits: Floats, targets: Targets) -> "Task":
        """Return the task with what one temperature cannot calibrate, fitted on images the model has not seen."""
        del logits, targets
        return self

    def decided(self, probabilities: Floats, targets: Targets, goal: str = "") -> "Task":
        """Return the task with the thresholds that its answers need, chosen on validation images.

        Args:
            probabilities: of these images (n, k), from a model that has not seen them.
            targets: of the images.
            goal: of a threshold, see `threshold_selection.Goal.parse`; empty: the one they were chosen for before.
        """
        del probabilities, targets, goal
        return self

    @abstractmethod
    def answers(self, probabilities: Floats, rule: Rule | None = None) -> Answers:
        """Return the answers for probabilities (n, k).

        Args:
            probabilities: of the outputs.
            rule: for exclusive tasks of two labels; None for the most probable answer.
        """

    def texts(self, chosen: Ints, probabilities: Floats) -> list[str]:
        """Return answers as text: those that `answers` chose for probabilities (n, k)."""
        del probabilities
        names = self.answer_names
        return [names[index] for index in chosen]

    def columns(self, probabilities: Floats, rule: Rule | None = None) -> dict[str, list[Any]]:
        """Return the columns of a table of predictions: `label`, the answer as text, and its `confidence`."""
        found = self.answers(probabilities, rule)
        return {"label": self.texts(found.chosen, probabilities), "confidence": found.confidence.tolist()}

    # --- evaluation

    def label_flags(self, probabilities: Floats, targets: Targets) -> "LabelFlags | None":
        """Return which labels images have and which the answers name; None if exactly one of each (see `exclusive`)."""
        del probabilities, targets
        return None

    @abstractmethod
    def metrics(self, positive: int = 1) -> dict[str, Metric]:
        """Return the metrics by name; `accuracy`, the share of right answers, and `log_loss` are among them.

        Args:
            positive: index of the positive label, if there are two exclusive ones.
        """

    @abstractmethod
    def baseline(self, train_targets: Targets, images: int) -> Values:
        """Return the predictions of a model that knows the training labels but sees no image, (images, k)."""
