"""Any number of labels for each image, none included: independent yes/no questions, a sigmoid for each.

A label is answered from its own threshold on, and calibrated by its own temperature; both are fitted by the model and
travel with the task. Without them the threshold is one half.
"""

import zlib
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit, logit, xlogy

from graft.core.errors import DataError
from graft.stats.decision_rule import Rule
from graft.stats.metrics import Floats, Metric, Values
from graft.stats.tag_metrics import tag_metrics
from graft.stats.temperature_scaling import fit_temperature
from graft.stats.threshold_selection import Goal, choose_threshold
from graft.tasks.tag_cells import SEPARATOR, UNKNOWN, split_tags
from graft.tasks.task import Answers, Bools, Ints, LabelFlags, Section, Targets, Task

if TYPE_CHECKING:
    import torch

SMALLEST = 1e-12
"""Probabilities are clipped to at least this, and at most one less this, before taking a logarithm."""
HALF = 0.5
SEVERAL = 2**32
"""Numbers of several labels together begin here."""


class Tags(Task):
    """Each image has any of `labels`, written with `|` between them in `column`.

    Targets are float32 (n, k), 0 and 1; a row of -1 is not labelled.
    """

    kind: Literal["tags"] = "tags"
    column: str = "label"
    thresholds: tuple[float, ...] = ()
    """From which probability on each label is answered; empty: one half."""
    temperatures: tuple[float, ...] = ()
    """Divide each label's logits, besides the temperature of them all; empty: one."""
    goal: str = "max_f1"
    """What the thresholds were chosen for."""

    exclusive: ClassVar[bool] = False
    head_kinds: ClassVar[tuple[str, ...]] = ("linear", "multi_tap")
    headline: ClassVar[str] = "mean_average_precision"
    lists_answers: ClassVar[bool] = True
    sections: ClassVar[tuple[Section, ...]] = ("numbers", "labels", "mistakes", "curves")

    @property
    def answer_names(self) -> tuple[str, ...]:
        """No label, the first one, and so on; several in one answer have no name of their own."""
        return ("", *self.labels)

    @property
    def categories(self) -> tuple[str, ...]:
        """No label, each label alone, and several of them."""
        return (*self.answer_names, "several")

    def categorised(self, chosen: Ints) -> Ints:
        """Return the index in `categories` of answers, (n,)."""
        return np.minimum(chosen, self.outputs + 1)

    @property
    def question(self) -> "Tags":
        """The task without thresholds and temperatures."""
        return self.model_copy(update={"thresholds": (), "temperatures": (), "goal": "max_f1"})

    def targets(self, table: pd.DataFrame) -> npt.NDArray[np.float32]:
        """Return which labels every row has, float32 (n, k); -1 for a row that is not labelled.

        Raises:
            DataError: if the table has no column `column`.
        """
        if self.column not in table.columns:
            raise DataError(f"no column {self.column!r} of tags in the table; it has {', '.join(table.columns)}")
        place = {label: number for number, label in enumerate(self.labels)}
        found = np.zeros((len(table), self.outputs), np.float32)
        for row, text in enumerate(table[self.column]):
            if text == UNKNOWN:
                found[row] = -1
                continue
            for label in split_tags(text):
                if label in place:
                    found[row, place[label]] = 1
        return found

    def labelled(self, targets: Targets) -> Bools:
        """Return which images somebody has looked at, (n,)."""
        return np.asarray((targets >= 0).all(axis=1), dtype=np.bool_)

    def strata(self, targets: Targets) -> Ints:
        """Return the rarest label of every image, counted from 1; 0 for an image without any."""
        shares = targets.sum(axis=0)
        rarest_first = np.argsort(shares, kind="stable")
        strata = np.zeros(len(targets), np.int64)
        for label in rarest_first[::-1]:
            strata[targets[:, label] > 0] = label + 1
        return strata

    def names(self, targets: Targets) -> list[str]:
        """Return the labels of every image with `|` between them; `?` for one that is not labelled."""
        return [UNKNOWN if (row < 0).any() else self._joined(row > 0) for row in targets]

    def counts(self, targets: Targets) -> dict[str, int]:
        """Return how many images have no label, and how many have each."""
        known = targets[self.labelled(targets)] > 0
        each = known.sum(axis=0).tolist()
        return {"": int((~known.any(axis=1)).sum()), **dict(zip(self.labels, map(int, each), strict=True))}

    def objective(
        self, logits: npt.NDArray[np.float32], targets: Targets, weight: Floats
    ) -> tuple[float, npt.NDArray[np.float32]]:
        """Return the weighted sum of the labels' cross-entropies and its gradient, which overwrites the logits."""
        value = float(weight @ self.losses(logits, targets))
        np.subtract(expit(logits, out=logits), targets, out=logits)
        logits *= weight.astype(np.float32)[:, None]
        return value, logits

    def prior_logits(self, targets: Targets, weight: Floats) -> Values:
        """Return the logits of the labels' weighted shares, (k,)."""
        return np.asarray(logit(_shares(weight @ targets, float(weight.sum()))), dtype=np.float64)

    def loss(
        self,
        logits: "torch.Tensor",
        targets: "torch.Tensor",
        *,
        label_weights: "torch.Tensor | None" = None,
        label_smoothing: float = 0.0,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> "torch.Tensor":
        """Return the sum of the labels' cross-entropies of a batch, see `Task.loss`."""
        from torch.nn.functional import binary_cross_entropy_with_logits  # late: see `Task`

        smooth = targets * (1 - label_smoothing) + label_smoothing / 2
        found = binary_cross_entropy_with_logits(logits, smooth, reduction="none")
        each = (found if label_weights is None else found * label_weights).sum(dim=1)
        return each.mean() if reduction == "mean" else each.sum()

    def losses(self, logits: Floats, targets: Targets) -> Values:
        """Return the sum of the labels' cross-entropies of every image, float64 (n,)."""
        wide = np.asarray(logits, dtype=np.float64)
        return np.asarray((np.logaddexp(0.0, wide) - targets * wide).sum(axis=1), dtype=np.float64)

    def probabilities(self, logits: Floats, temperature: float = 1.0) -> Values:
        """Return the sigmoid of logits (n, k) divided by the temperatures, float64."""
        each = np.asarray(self.temperatures) if self.temperatures else 1.0
        return np.asarray(expit(np.asarray(logits, dtype=np.float64) / (temperature * each)), dtype=np.float64)

    def logits(self, probabilities: Floats) -> Values:
        """Return the log odds of probabilities (n, k), times each label's temperature."""
        each = np.asarray(self.temperatures) if self.temperatures else 1.0
        return np.asarray(logit(_clipped(probabilities)) * each, dtype=np.float64)

    def log_losses(self, probabilities: Floats, targets: Targets) -> Values:
        """Return the sum of the labels' cross-entropies of every image, float64 (n,)."""
        sure = _clipped(probabilities)
        return np.asarray(-(xlogy(targets, sure) + xlogy(1 - targets, 1 - sure)).sum(axis=1), dtype=np.float64)

    def named(self, probabilities: Floats) -> Bools:
        """Return which labels the answers name, (n, k): those at or above their thresholds."""
        return np.asarray(probabilities >= self._thresholds(), dtype=np.bool_)

    def correct(self, probabilities: Floats, targets: Targets) -> Bools:
        """Return for which images every label is right, (n,)."""
        return np.asarray((self.named(probabilities) == (targets > 0)).all(axis=1), dtype=np.bool_)

    def calibrated(self, logits: Floats, targets: Targets) -> "Tags":
        """Return the task with a temperature for each label (Guo et al. 2017), on images the model has not seen."""
        if not len(targets):
            return self
        of_two = [np.stack([np.zeros(len(one)), one], axis=1) for one in np.asarray(logits, dtype=np.float64).T]
        flags = targets.astype(np.int64).T
        found = [fit_temperature(two, truth) for two, truth in zip(of_two, flags, strict=True)]
        return self.model_copy(update={"temperatures": tuple(round(one, 6) for one in found)})

    def decided(self, probabilities: Floats, targets: Targets, goal: str = "") -> "Tags":
        """Return the task with a threshold for each label; one half for a label on all of these images or none."""
        aim = Goal.parse(goal or self.goal)
        pairs = zip(targets.T > 0, np.asarray(probabilities, dtype=np.float64).T, strict=True)
        found = tuple(round(choose_threshold(present, score, aim).threshold, 6) for present, score in pairs)
        return self.model_copy(update={"thresholds": found, "goal": str(aim)})

    def answers(self, probabilities: Floats, rule: Rule | None = None) -> Answers:
        """Return for every image a number of its labels and how probable it is that all of them are right.

        The number is 0 without a label, i + 1 for label i alone; that of several labels is larger and stands for them,
        but not in `answer_names`.
        """
        named = self.named(probabilities)
        of_each = np.where(named, probabilities, 1 - np.asarray(probabilities, dtype=np.float64))
        return Answers(_numbers(named), np.asarray(of_each.prod(axis=1), dtype=np.float64))

    def texts(self, chosen: Ints, probabilities: Floats) -> list[str]:
        """Return the labels of every image with `|` between them."""
        return [self._joined(row) for row in self.named(probabilities)]

    def columns(self, probabilities: Floats, rule: Rule | None = None) -> dict[str, list[Any]]:
        """Return `label`, the labels with `|` between them, `confidence`, that all are right, and `tags`, a list."""
        found = self.answers(probabilities)
        lists = [[self.labels[index] for index in np.flatnonzero(row)] for row in self.named(probabilities)]
        return {
            "label": self.texts(found.chosen, probabilities),
            "confidence": found.confidence.tolist(),
            "tags": lists,
        }

    def metrics(self, positive: int = 1) -> dict[str, Metric]:
        """Return the metrics of tags; `accuracy` is the share of images whose labels are all right (exact match)."""
        del positive
        return tag_metrics(self._thresholds())

    def baseline(self, train_targets: Targets, images: int) -> Values:
        """Return the labels' training frequencies for every image, (images, k); only frequent ones are answers."""
        shares = _shares(train_targets.sum(axis=0), len(train_targets))
        limits = self._thresholds()
        constant = np.where(shares >= HALF, np.maximum(shares, limits), np.minimum(shares, limits * (1 - 1e-6)))
        return np.tile(constant, (images, 1))

    def label_flags(self, probabilities: Floats, targets: Targets) -> LabelFlags:
        """Return which labels images have and which the answers name, (n, k) each."""
        return LabelFlags(np.asarray(targets > 0, dtype=np.bool_), self.named(probabilities))

    def threshold_of(self, label: str) -> float:
        """Return from which probability on a label is answered."""
        return float(self._thresholds()[self.labels.index(label)])

    def _thresholds(self) -> Values:
        return np.asarray(self.thresholds or (HALF,) * self.outputs, dtype=np.float64)

    def _joined(self, named: Bools) -> str:
        return SEPARATOR.join(self.labels[index] for index in np.flatnonzero(named))


def _clipped(probabilities: Floats) -> Values:
    return np.clip(np.asarray(probabilities, dtype=np.float64), SMALLEST, 1 - SMALLEST)


def _shares(counts: Floats, total: float) -> Values:
    return np.asarray((counts + 0.5) / (total + 1.0), dtype=np.float64)


def _numbers(named: Bools) -> Ints:
    """Return a number for every combination of labels (n, k): 0 for none, i + 1 for label i alone, larger for more."""
    found = np.where(named.any(axis=1), named.argmax(axis=1) + 1, 0).astype(np.int64)
    for row in np.flatnonzero(named.sum(axis=1) > 1):
        found[row] = SEVERAL + zlib.crc32(np.packbits(named[row]).tobytes())
    return found
