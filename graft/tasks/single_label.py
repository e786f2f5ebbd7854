"""One of several classes for each image: softmax over the classes and cross-entropy."""

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from graft.core.errors import DataError
from graft.stats.decision_rule import Rule, apply_rule, confidences
from graft.stats.metrics import Floats, Metric, Values, metrics_for, predictions, softmax
from graft.stats.temperature_scaling import fit_temperature
from graft.tasks.task import Answers, Bools, Ints, Section, Targets, Task

if TYPE_CHECKING:
    import torch

SMALLEST = 1e-12
"""Probabilities are clipped to at least this before taking the logarithm."""
AT_ONCE = 2**16
"""Number of images whose one-hot targets are in memory at a time."""


class SingleLabel(Task):
    """Each image has one of `labels`, given in the column `column`. Targets are class indices, int64 (n,)."""

    kind: Literal["single_label"] = "single_label"
    column: str = "label"

    exclusive: ClassVar[bool] = True
    head_kinds: ClassVar[tuple[str, ...]] = ("linear", "multi_tap", "mlp", "cosine")
    headline: ClassVar[str] = "accuracy"
    sections: ClassVar[tuple[Section, ...]] = (
        "numbers",
        "confusion",
        "mistakes",
        "ranking",
        "curves",
        "calibration",
    )

    @property
    def answer_names(self) -> tuple[str, ...]:
        """The classes."""
        return self.labels

    def targets(self, table: pd.DataFrame) -> Ints:
        """Return the class index of every row, int64 (n,); -1 for a row without a label.

        Raises:
            DataError: if the table has no column `column`.
        """
        if self.column not in table.columns:
            raise DataError(f"no column {self.column!r} of labels in the table; it has {', '.join(table.columns)}")
        return pd.Index(self.labels).get_indexer(pd.Index(table[self.column])).astype(np.int64)

    def labelled(self, targets: Targets) -> Bools:
        """Return which images have a label, (n,)."""
        return np.asarray(targets >= 0, dtype=np.bool_)

    def strata(self, targets: Targets) -> Ints:
        """Return the class of every image."""
        return np.asarray(targets, dtype=np.int64)

    def names(self, targets: Targets) -> list[str]:
        """Return the class name of every image, empty for one without a label."""
        return [self.labels[target] if target >= 0 else "" for target in targets]

    def objective(
        self, logits: npt.NDArray[np.float32], targets: Targets, weight: Floats
    ) -> tuple[float, npt.NDArray[np.float32]]:
        """Return the weighted sum of the cross-entropy and its gradient, which overwrites the logits."""
        right, pull = (np.arange(len(targets)), targets), weight.astype(np.float32)
        logits -= logits.max(axis=1, keepdims=True)
        of_right = logits[right]
        total = np.exp(logits, out=logits).sum(axis=1)
        value = -float(weight @ (of_right - np.log(total)))
        logits *= (pull / total)[:, None]
        logits[right] -= pull
        return value, logits

    def prior_logits(self, targets: Targets, weight: Floats) -> Values:
        """Return the centred logarithms of the classes' weighted shares, (k,)."""
        shares = np.zeros(self.outputs)
        for start in range(0, len(targets), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            shares += weight[part] @ np.eye(self.outputs)[targets[part]]
        prior = np.log((shares + 1e-9) / weight.sum())
        return np.asarray(prior - prior.mean(), dtype=np.float64)

    def loss(
        self,
        logits: "torch.Tensor",
        targets: "torch.Tensor",
        *,
        label_weights: "torch.Tensor | None" = None,
        label_smoothing: float = 0.0,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> "torch.Tensor":
        """Return the cross-entropy, see `Task.loss`."""
        from torch.nn.functional import cross_entropy  # late: the wings without torch use tasks too

        return cross_entropy(
            logits, targets, weight=label_weights, label_smoothing=label_smoothing, reduction=reduction
        )

    def losses(self, logits: Floats, targets: Targets) -> Values:
        """Return the cross-entropy of every image, float64 (n,)."""
        scaled = np.asarray(logits, dtype=np.float64)
        scaled = scaled - scaled.max(axis=1, keepdims=True)
        return np.asarray(np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(len(targets)), targets])

    def imbalance(self, targets: Targets) -> float:
        """Return the size of the largest class over that of the smallest non-empty one; 1.0 without images."""
        counts = np.bincount(targets, minlength=self.outputs)
        return float(counts.max() / counts[counts > 0].min()) if counts.any() else 1.0

    def label_weights(self, targets: Targets) -> Values:
        """Return weights (k,) that give every class the same total, with a mean of one over the images."""
        counts = np.bincount(targets, minlength=self.outputs)
        return np.asarray(len(targets) / (np.count_nonzero(counts) * np.maximum(counts, 1)), dtype=np.float64)

    def image_weights(self, targets: Targets, label_weights: Floats) -> Values:
        """Return the weight of every image's class, (n,)."""
        return np.asarray(label_weights[targets], dtype=np.float64)

    def probabilities(self, logits: Floats, temperature: float = 1.0) -> Values:
        """Return the softmax of logits (n, k) divided by a temperature, float64."""
        return softmax(logits, temperature)

    def logits(self, probabilities: Floats) -> Values:
        """Return the logarithms of probabilities (n, k)."""
        return np.asarray(np.log(np.clip(probabilities, SMALLEST, 1.0)), dtype=np.float64)

    def log_losses(self, probabilities: Floats, targets: Targets) -> Values:
        """Return the negative log probability of the right class of every image, float64 (n,)."""
        of_right = np.take_along_axis(probabilities, targets[:, None], axis=1)[:, 0]
        return np.asarray(-np.log(np.clip(of_right, SMALLEST, 1.0)), dtype=np.float64)

    def correct(self, probabilities: Floats, targets: Targets) -> Bools:
        """Return whether the most probable class is right, (n,)."""
        return np.asarray(predictions(probabilities) == targets, dtype=np.bool_)

    def fit_temperature(self, logits: Floats, targets: Targets) -> float:
        """Return the temperature of Guo et al. (2017), see `temperature_scaling`."""
        return fit_temperature(np.asarray(logits, dtype=np.float64), targets)

    def answers(self, probabilities: Floats, rule: Rule | None = None) -> Answers:
        """Return the most probable class, or the one that a rule for two classes picks."""
        index = apply_rule(probabilities, rule)
        return Answers(index, confidences(probabilities, index))

    def metrics(self, positive: int = 1) -> dict[str, Metric]:
        """Return the metrics that make sense for this number of classes."""
        return metrics_for(self.outputs, positive)

    def baseline(self, train_targets: Targets, images: int) -> Values:
        """Return the classes' training frequencies for every image, (images, k)."""
        counts = np.bincount(train_targets, minlength=self.outputs).astype(np.float64)
        return np.tile(counts / counts.sum(), (images, 1))
