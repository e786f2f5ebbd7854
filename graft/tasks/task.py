"""The interface of a task: everything that depends on what is learnt, and nothing else does.

A task is a frozen object that is written into every artifact (`kind` and its fields as JSON) and read back by
`kinds.parse_task`. Heads and statistics ask it with NumPy arrays, the trainer with tensors; a task imports torch
only in `loss`, so that the wings without torch can use it.

Shapes: n images, k outputs. Targets are an array whose first axis is the images; what its other axes and its dtype are
is the task's own business. Logits and probabilities are (n, k).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
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
Section = Literal["numbers", "confusion", "mistakes", "ranking", "curves", "calibration"]
"""Parts of the report that depend on the task; the others (slices, data, costs, how it was made) are said of any."""


class Answers(NamedTuple):
    """What a task answers for n images."""

    chosen: Ints
    """Which of `Task.answer_names` each answer is, (n,)."""
    confidence: Values
    """Probability of the answer, (n,)."""


class Task(BaseModel, ABC):
    """What is learnt from images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    """Which class it is, see `kinds.register`."""
    name: str = "label"
    """Of the task, as the user calls it."""
    labels: tuple[str, ...]
    """Names of the k outputs, in order."""

    exclusive: ClassVar[bool]
    """Whether exactly one label is right for an image, so that its probabilities sum to one. Prediction sets, confusion
    and the decision threshold of two classes are for such tasks alone."""
    head_kinds: ClassVar[tuple[str, ...]]
    """Kinds of head that can learn it, see `heads.families`; the first is the default."""
    headline: ClassVar[str]
    """The metric that is named first."""
    sections: ClassVar[tuple[Section, ...]]
    """Parts of the report that say something about it."""

    @property
    def outputs(self) -> int:
        """Number of outputs k."""
        return len(self.labels)

    @property
    @abstractmethod
    def answer_names(self) -> tuple[str, ...]:
        """Every answer there can be, in text."""

    # --- from the table

    @abstractmethod
    def targets(self, table: pd.DataFrame) -> Targets:
        """Return the targets of a dataset's rows; see `labelled` for rows that have none.

        Raises:
            DataError: if the table lacks a column, or holds a label that the task does not know.
        """

    def labelled(self, targets: Targets) -> Bools:
        """Return which images have a target, (n,); all, unless a task says otherwise."""
        return np.ones(len(targets), dtype=np.bool_)

    @abstractmethod
    def strata(self, targets: Targets) -> Ints:
        """Return a number for every image, (n,): folds, samples and resamples keep the share of each."""

    @abstractmethod
    def names(self, targets: Targets) -> list[str]:
        """Return the right answer of every image in text, empty for one without a target."""

    # --- learning

    @abstractmethod
    def objective(
        self, logits: npt.NDArray[np.float32], targets: Targets, weight: Floats
    ) -> tuple[float, npt.NDArray[np.float32]]:
        """Return the weighted sum of the losses and its gradient by the logits, which may be written in their place.

        Args:
            logits: float32 (n, k).
            targets: of the images.
            weight: (n,).
        """

    @abstractmethod
    def prior_logits(self, targets: Targets, weight: Floats) -> Values:
        """Return the logits (k,) of a model that knows how frequent each label is and has seen no image."""

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
        """Return how many times as frequent the most frequent label is as the rarest that occurs; 1.0: never mind."""
        del targets
        return 1.0

    def label_weights(self, targets: Targets) -> Values:
        """Return weights (k,) under which every label counts the same and the mean over the images is one."""
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
        """Return the loss of every image, float64 (n,), from probabilities; certainty is taken for nearly that."""

    @abstractmethod
    def correct(self, probabilities: Floats, targets: Targets) -> Bools:
        """Return whether the answer without any rule is right, (n,)."""

    def fit_temperature(self, logits: Floats, targets: Targets) -> float:
        """Return the temperature that logits of images the model has not seen are divided by; 1.0: as they are."""
        del logits, targets
        return 1.0

    @abstractmethod
    def answers(self, probabilities: Floats, rule: Rule | None = None) -> Answers:
        """Return what is answered for probabilities (n, k).

        Args:
            probabilities: of the outputs.
            rule: for exclusive tasks of two labels; None for the most probable answer.
        """

    def columns(self, probabilities: Floats, rule: Rule | None = None) -> dict[str, list[Any]]:
        """Return the columns that a table of predictions gets: `label`, the answer in text, and its `confidence`."""
        found = self.answers(probabilities, rule)
        names = self.answer_names
        return {"label": [names[index] for index in found.chosen], "confidence": found.confidence.tolist()}

    # --- evaluation

    @abstractmethod
    def metrics(self, positive: int = 1) -> dict[str, Metric]:
        """Return the metrics by name; `accuracy`, the share of right answers, and `log_loss` are among them.

        Args:
            positive: of two exclusive labels, the one that is looked for.
        """

    @abstractmethod
    def baseline(self, train_targets: Targets, images: int) -> Values:
        """Return what a model predicts that has seen the training labels and no image, (images, k)."""

    def plain(self) -> Mapping[str, Any]:
        """Return the task as plain JSON, as `kinds.parse_task` reads it."""
        return self.model_dump(mode="json")
