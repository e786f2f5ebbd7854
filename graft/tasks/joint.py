"""Several tasks of the same images as one: what a backbone that serves all of them is trained for.

The loss is the plain sum of the tasks' mean losses, each divided by that of guessing among its labels. Schemes that
balance the tasks during training do no better (Kurin et al., In Defense of the Unitary Scalarization, 2022). A joint
task exists while a backbone is trained and is never written: each task keeps its own head and record.
"""

import math
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import SerializeAsAny

from graft.core.errors import ParamsError
from graft.stats.decision_rule import Rule
from graft.stats.metrics import Floats, Metric, Values, mean_by_resample
from graft.tasks.single_label import SingleLabel
from graft.tasks.tags import Tags
from graft.tasks.task import Answers, Bools, Ints, Part, Section, Targets, Task

if TYPE_CHECKING:
    import torch

UNLABELLED = -1.0


class Joint(Task):
    """Targets are float64 (n, sum of widths): the columns of each task side by side, -1 where it has no label."""

    kind: Literal["joint"] = "joint"
    parts: tuple[SerializeAsAny[Task], ...]
    weighted: tuple[bool, ...]
    """Whether the labels of each task count the same in its loss."""
    temperatures: tuple[float, ...] = ()
    """Of each task, fitted on images the model has not seen; empty: one."""

    exclusive: ClassVar[bool] = False
    head_kinds: ClassVar[tuple[str, ...]] = ()
    headline: ClassVar[str] = "accuracy"
    sections: ClassVar[tuple[Section, ...]] = ()

    @classmethod
    def of(cls, parts: tuple[Task, ...], weighted: tuple[bool, ...]) -> "Joint":
        """Join tasks.

        Raises:
            ParamsError: for a kind of task whose loss cannot be added to others.
        """
        for part in parts:
            if not isinstance(part, SingleLabel | Tags):
                raise ParamsError(f"fine_tune: a task of kind {part.kind!r} is not trained together with others")
        labels = tuple(f"{part.name}.{label}" for part in parts for label in part.labels)
        return cls(name=" and ".join(part.name for part in parts), labels=labels, parts=parts, weighted=weighted)

    @property
    def answer_names(self) -> tuple[str, ...]:
        """None: each task has its own."""
        return ()

    def separate(self, targets: Targets) -> tuple[Part, ...]:
        """Return each task with the images that have a label for it."""
        found, column, output = [], 0, 0
        for part in self.parts:
            width = _width(part)
            own = targets[:, column : column + width]
            rows = np.asarray(own[:, 0] != UNLABELLED, dtype=np.bool_)
            found.append(Part(part, rows, _as_own(part, own[rows]), slice(output, output + part.outputs)))
            column, output = column + width, output + part.outputs
        return tuple(found)

    def targets(self, table: pd.DataFrame) -> Targets:
        """Return the targets of all tasks."""
        columns = []
        for part in self.parts:
            own = part.targets(table)
            wide = np.array(own, dtype=np.float64).reshape(len(table), -1)
            wide[~part.labelled(own)] = UNLABELLED
            columns.append(wide)
        return np.concatenate(columns, axis=1)

    def labelled(self, targets: Targets) -> Bools:
        """Return which images have a label for any task."""
        return np.asarray(np.any([part.rows for part in self.separate(targets)], axis=0), dtype=np.bool_)

    def strata(self, targets: Targets) -> Ints:
        """Return a number for each combination of the tasks' strata that occurs, with a place for no label."""
        strata = np.full((len(targets), len(self.parts)), -1, dtype=np.int64)
        for place, (part, rows, own, _) in enumerate(self.separate(targets)):
            strata[rows, place] = part.strata(own)
        if not len(targets):
            return np.zeros(0, np.int64)
        return np.unique(strata, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)

    def names(self, targets: Targets) -> list[str]:
        """Return the right answers of all tasks."""
        texts = np.full((len(targets), len(self.parts)), "", dtype=object)
        for place, (part, rows, own, _) in enumerate(self.separate(targets)):
            texts[rows, place] = part.names(own)
        return [", ".join(row) for row in texts]

    def objective(
        self, logits: npt.NDArray[np.float32], targets: Targets, weight: Floats
    ) -> tuple[float, npt.NDArray[np.float32]]:
        """Return the weighted sum of the tasks' losses, each divided by that of guessing, and its gradient."""
        value = 0.0
        for part, rows, own, outputs in self.separate(targets):
            size = guessing_loss(part)
            loss, slope = part.objective(logits[rows, outputs], own, weight[rows] / size)
            value += loss
            logits[:, outputs] = 0.0
            logits[rows, outputs] = slope
        return value, logits

    def prior_logits(self, targets: Targets, weight: Floats) -> Values:
        """Return those of every task."""
        return np.concatenate([part.prior_logits(own, weight[rows]) for part, rows, own, _ in self.separate(targets)])

    def loss(
        self,
        logits: "torch.Tensor",
        targets: "torch.Tensor",
        *,
        label_weights: "torch.Tensor | None" = None,
        label_smoothing: float = 0.0,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> "torch.Tensor":
        """Return the sum of the tasks' mean losses over their labelled images, each divided by that of guessing.

        Raises:
            ParamsError: if it is asked for a part of a batch: the labelled images of all of it would have to be known.
        """
        if reduction == "sum":
            raise ParamsError("fine_tune: several tasks are trained by one process; start it without torchrun")
        total = logits.sum() * 0.0
        column, output = 0, 0
        for part in self.parts:
            width, outputs = _width(part), slice(output, output + part.outputs)
            own = targets[:, column : column + width]
            rows = own[:, 0] != UNLABELLED
            column, output = column + width, output + part.outputs
            if not rows.any():
                continue
            truth = own[rows, 0].long() if width == 1 and part.exclusive else own[rows].to(logits.dtype)
            weights = None if label_weights is None else label_weights[outputs]
            found = part.loss(logits[rows][:, outputs], truth, label_weights=weights, label_smoothing=label_smoothing)
            total = total + found / guessing_loss(part)
        return total

    def losses(self, logits: Floats, targets: Targets) -> Values:
        """Return the sum of each image's losses, each divided by that of guessing; 0 for a task without its label."""
        total = np.zeros(len(targets))
        for part, rows, own, outputs in self.separate(targets):
            total[rows] += part.losses(logits[rows, outputs], own) / guessing_loss(part)
        return total

    def label_weights(self, targets: Targets) -> Values:
        """Return those of every task; one for a task that is not weighted."""
        pairs = zip(self.separate(targets), self.weighted, strict=True)
        return np.concatenate(
            [part.label_weights(own) if weighted else np.ones(part.outputs) for (part, _, own, _), weighted in pairs]
        )

    def probabilities(self, logits: Floats, temperature: float = 1.0) -> Values:
        """Return the probabilities of all tasks side by side."""
        found, start = [], 0
        for number, part in enumerate(self.parts):
            own = temperature * (self.temperatures[number] if self.temperatures else 1.0)
            found.append(part.probabilities(logits[:, start : start + part.outputs], own))
            start += part.outputs
        return np.concatenate(found, axis=1)

    def logits(self, probabilities: Floats) -> Values:
        """Return the logits of all tasks side by side."""
        found, start = [], 0
        for part in self.parts:
            found.append(part.logits(probabilities[:, start : start + part.outputs]))
            start += part.outputs
        return np.concatenate(found, axis=1)

    def log_losses(self, probabilities: Floats, targets: Targets) -> Values:
        """Return the same as `losses`, from probabilities."""
        total = np.zeros(len(targets))
        for part, rows, own, outputs in self.separate(targets):
            total[rows] += part.log_losses(probabilities[rows, outputs], own) / guessing_loss(part)
        return total

    def correct(self, probabilities: Floats, targets: Targets) -> Bools:
        """Return for which images every answer that can be checked is right."""
        right = np.ones(len(targets), dtype=np.bool_)
        for part, rows, own, outputs in self.separate(targets):
            right[rows] &= part.correct(probabilities[rows, outputs], own)
        return right

    def calibrated(self, logits: Floats, targets: Targets) -> "Joint":
        """Return the task with every part calibrated, on images the model has not seen."""
        parts, temperatures = [], []
        for part, rows, own, outputs in self.separate(targets):
            parts.append(part.calibrated(logits[rows, outputs], own))
            temperatures.append(part.fit_temperature(logits[rows, outputs], own))
        return self.model_copy(update={"parts": tuple(parts), "temperatures": tuple(temperatures)})

    def decided(self, probabilities: Floats, targets: Targets, goal: str = "") -> "Joint":
        """Return the task with new thresholds for every part that has any, on validation images."""
        parts = self.separate(targets)
        found = tuple(part.decided(probabilities[rows, outputs], own, goal) for part, rows, own, outputs in parts)
        return self.model_copy(update={"parts": found})

    def answers(self, probabilities: Floats, rule: Rule | None = None) -> Answers:
        """Return which output is the most probable one; only to tell whether two models answer the same."""
        return Answers(probabilities.argmax(axis=1), probabilities.max(axis=1))

    def metrics(self, positive: int = 1) -> dict[str, Metric]:
        """Return the share of images with every answer right, and the loss."""
        del positive
        return {
            "accuracy": lambda targets, found, weights: mean_by_resample(self.correct(found, targets), weights),
            "log_loss": lambda targets, found, weights: mean_by_resample(self.log_losses(found, targets), weights),
        }

    def baseline(self, train_targets: Targets, images: int) -> Values:
        """Return the baselines of all tasks side by side."""
        return np.concatenate([part.baseline(own, images) for part, _, own, _ in self.separate(train_targets)], axis=1)


def guessing_loss(task: Task) -> float:
    """Return the loss of an answer without knowledge: the logarithm of the number of answers."""
    return math.log(task.outputs) if task.exclusive else task.outputs * math.log(2)


def _width(task: Task) -> int:
    return 1 if task.exclusive else task.outputs


def _as_own(task: Task, targets: Targets) -> Targets:
    """Return targets in the form of their own task."""
    return targets[:, 0].astype(np.int64) if task.exclusive else targets.astype(np.float32)
