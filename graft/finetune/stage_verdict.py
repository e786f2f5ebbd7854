"""Decides whether a stage is kept, on images that it was not trained on.

A stage runs to the end of its schedule, and its last weights are judged. No epoch is chosen on the images that judge:
the best of several noisy epochs looks better than it is, and to undo that costs more than the choice brings
(cross-fitted choices depend on one another, so the error of their mean is a seventh larger than it looks). Where a
share of the way is chosen (`wise_ft`), the verdict asks for as much more as the best of these shares gains by luck.
Either model has a temperature of its own: over-confidence, which one number takes away, is no harm.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import t as students_t

from graft.stats.model_comparison import paired_rates
from graft.stats.paired_difference import paired_difference
from graft.tasks.task import Bools, Targets, Task
from graft.training.objective import Logits, best_temperature, correct

Evidence = Literal["cross_validation", "validation"]
"""What judges a stage: all training images, each by a model that has not seen it, or the validation images."""
HELD_OUT: Mapping[Evidence, str] = {
    "cross_validation": "held-out training images",
    "validation": "validation images",
}
"""Names of the held-out images in messages."""
Groups = npt.NDArray[np.object_]
SIZE = 0.05
"""How often a useless stage may be kept. At this level no test sees a gain of two standard errors more often than in
64 % of cases, and one of 2.5 in 80 %: what is needed beyond that is more images."""
POWER = 0.8
"""How often the smallest gain that is told as visible would be seen."""
GROWTH = 2.0
"""A complete training gains about as many times what its trial gains (digits: 0.123 against 0.071; sketches: 0.078
against 0.030)."""
USUAL = 0.2
"""Share of the log loss that a stage takes away where it helps: a sixth to a third (sketches, digits, 102 flowers)."""
LEAST_DISCORDANT = 6
"""Two models must differ on this many images before McNemar's exact test (two-sided, 5 %) can tell them apart."""


@dataclass(frozen=True)
class HeldOut:
    """The images that judge."""

    task: Task
    targets: Targets
    groups: Groups
    """Name of each image's group (n,); images of one group are not independent."""

    def loss(self, logits: Logits) -> float:
        """Return the mean loss of logits (n, C) at the temperature that suits them best, summed over tasks."""
        return sum(one._loss(logits[rows][:, outputs]) for one, rows, outputs in self._by_task())

    def image_losses(self, logits: Logits) -> npt.NDArray[np.float64]:
        """Return the loss of each image (n,) of logits (n, C), as `loss` averages it: tasks without a label add 0."""
        found = np.zeros(len(logits))
        for one, rows, outputs in self._by_task():
            found[rows] += one.task.losses(one._scaled(logits[rows][:, outputs]), one.targets) * len(found) / rows.sum()
        return found

    def compare(self, before: Logits, after: Logits) -> "Comparison":
        """Compare logits (n, C), each at the temperature that suits them best on these images, task by task."""
        found = {
            one.task.name: one._compare(before[rows][:, outputs], after[rows][:, outputs])
            for one, rows, outputs in self._by_task()
        }
        return next(iter(found.values())) if len(found) == 1 else JointComparison.of(found, len(before))

    def _by_task(self) -> "Iterator[tuple[HeldOut, Bools, slice]]":
        """Yield the images with a label for each task, which they are, and the task's columns among all logits."""
        for part in self.task.separate(self.targets):
            yield HeldOut(part.task, part.targets, self.groups[part.rows]), part.rows, part.outputs

    def _loss(self, logits: Logits) -> float:
        return float(self.task.losses(self._scaled(logits), self.targets).mean())

    def _compare(self, before: Logits, after: Logits) -> "Comparison":
        """Compare the logits of one task.

        Both are favoured alike. As the loss is at its minimum, the fit hardly adds to the error: half a chi-squared
        variable over n for either model (Wilks 1938), whose variance is counted.
        """
        scaled = self._scaled(before), self._scaled(after)
        losses_before, losses_after = (self.task.losses(each, self.targets) for each in scaled)
        gain, error = paired_difference(losses_before, losses_after, self.groups)
        right_before, right_after = (correct(self.task, each, self.targets) for each in scaled)
        independent = len(np.unique(self.groups))
        return Comparison(
            gain=gain,
            error=math.hypot(error, 1 / independent),
            loss_before=float(losses_before.mean()),
            loss_after=float(losses_after.mean()),
            right_before=int(right_before.sum()),
            right_after=int(right_after.sum()),
            less_accurate=paired_rates(right_after, right_before, self.groups).difference.high < 0,
            images=len(before),
            independent=independent,
        )

    def _scaled(self, logits: Logits) -> Logits:
        return logits / np.float32(best_temperature(self.task, logits, self.targets))


@dataclass(frozen=True)
class Comparison:
    """How predictions of the same images differ before and after a stage."""

    gain: float
    """Decrease of the mean log loss."""
    error: float
    """Its standard error, over groups of images."""
    loss_before: float
    loss_after: float
    right_before: int
    right_after: int
    less_accurate: bool
    """Whether so many more answers are wrong that chance does not explain it (McNemar's test, between groups)."""
    images: int
    independent: int
    """Number of groups of these images."""

    def clear(self, tried: float = 1) -> bool:
        """Return whether the gain is more than chance, if it is the best of `tried`."""
        return self.gain > self._least(tried) and not self.less_accurate

    @property
    def clearly_worse(self) -> bool:
        """Whether the loss is more than chance explains, or the number of wrong answers is."""
        return self.gain < -self._least(1) or self.less_accurate

    def on_the_way(self, images: int, tried: float) -> bool:
        """Return whether the gain may still become clear: it would if it grew by `GROWTH` and one standard error.

        Args:
            images: number of images that will judge the complete stage; their error is smaller if they are more.
            tried: number of stages of which the best is taken.
        """
        complete = self._least(tried) * math.sqrt(self.images / images)
        return GROWTH * self.gain + self.error > complete and not self.less_accurate

    def could_show_a_usual_gain(self, images: int, tried: float) -> bool:
        """Return whether the gain that another stage would have, if it helped, would be clear on so many images."""
        return USUAL * self.loss_before > self._least(tried) * math.sqrt(self.images / images)

    def visible(self, tried: float = 1) -> float:
        """Return the smallest true gain that these images would have shown in four of five cases."""
        return self._least(tried) + NormalDist().inv_cdf(POWER) * self.error

    def describe(self, tried: float = 1) -> str:
        """Return the comparison in words."""
        return (
            f"log loss {self.loss_before:.3f} -> {self.loss_after:.3f} (gain {self.gain:.3f}, standard error "
            f"{self.error:.3f}, visible from {self.visible(tried):.3f} on), right {self.right_before} -> "
            f"{self.right_after} of {self.images:,}"
        )

    def _least(self, tried: float) -> float:
        """Return what a gain must exceed; infinite if all images are of one group."""
        return quantile(tried, self.independent) * self.error if self.independent > 1 else math.inf


@dataclass(frozen=True)
class JointComparison(Comparison):
    """How the predictions of several tasks differ: one must clearly gain, and none may lose."""

    parts: Mapping[str, Comparison] = field(default_factory=dict)
    """By task."""

    @classmethod
    def of(cls, parts: Mapping[str, Comparison], images: int) -> "JointComparison":
        """Join the comparisons of the tasks; the numbers of the whole are sums."""
        each = list(parts.values())
        return cls(
            gain=sum(part.gain for part in each),
            error=math.hypot(*(part.error for part in each)),
            loss_before=sum(part.loss_before for part in each),
            loss_after=sum(part.loss_after for part in each),
            right_before=sum(part.right_before for part in each),
            right_after=sum(part.right_after for part in each),
            less_accurate=any(part.less_accurate for part in each),
            images=images,
            independent=min(part.independent for part in each),
            parts=parts,
        )

    def clear(self, tried: float = 1) -> bool:
        """Return whether one task gains more than chance and none loses more than a standard error."""
        each = self.parts.values()
        gains = any(part.clear(tried * len(self.parts)) for part in each)
        return gains and not self.less_accurate and all(part.gain >= -part.error for part in each)

    @property
    def clearly_worse(self) -> bool:
        """Whether any task is."""
        return any(part.clearly_worse for part in self.parts.values())

    def on_the_way(self, images: int, tried: float) -> bool:
        """Return whether one task may still gain clearly and none is clearly worse."""
        several = tried * len(self.parts)
        return not self.clearly_worse and any(part.on_the_way(images, several) for part in self.parts.values())

    def describe(self, tried: float = 1) -> str:
        """Return the comparison of every task in words."""
        several = tried * len(self.parts)
        return "; ".join(f"{name}: {part.describe(several)}" for name, part in self.parts.items())


@dataclass(frozen=True)
class Verdict:
    """Whether a stage is kept, and why."""

    kept: bool
    reason: str


def held_out_verdict(
    found: Comparison, with_head: Comparison, evidence: Evidence, *, requested: bool, tried: float = 1
) -> Verdict:
    """Judge a stage by the images that were held out from its training.

    Args:
        found: the stage against the best model before it, on these images.
        with_head: the stage against the head on frozen features; the same for the first stage.
        evidence: which images they are.
        requested: whether the user requested exactly this stage: then it is kept, and told what it brought.
        tried: number of stages of which this one looked best.
    """
    told = f"{HELD_OUT[evidence]}: {found.describe(tried)}"
    if with_head != found:
        told += f"; against the head: {with_head.describe(tried)}"
    if requested:
        return Verdict(True, f"kept as asked for ({_brought(found)}); {told}")
    if found.less_accurate or with_head.less_accurate:
        return Verdict(False, f"rolled back: clearly fewer right answers; {told}")
    if found.clear(tried) and with_head.clear(tried):
        return Verdict(True, f"kept; {told}")
    return Verdict(False, f"rolled back: no clear gain; {told}")


def _brought(found: Comparison) -> str:
    if found.less_accurate:
        return "clearly fewer right answers"
    return "a clear gain" if found.clear() else "clearly worse" if found.clearly_worse else "no clear gain"


def validation_verdict(found: Comparison, of_folds: Verdict, *, requested: bool) -> Verdict:
    """Judge a stage on the validation images, after it passed on its folds and was trained on all images.

    They are few, so they only stop what is clearly worse there.

    Args:
        found: on the validation images.
        of_folds: the verdict on the folds.
        requested: whether the user requested exactly this stage: then it stays.
    """
    if found.clearly_worse and not requested:
        reason = of_folds.reason.removeprefix("kept; ")
        return Verdict(False, f"rolled back: worse on validation: {found.describe()}; {reason}")
    return Verdict(True, f"{of_folds.reason}; validation: {found.describe()}")


def nothing_to_win(task: Task, probabilities: npt.NDArray[np.floating], targets: Targets, groups: Groups) -> str:
    """Return why even a perfect model would be no clear gain over held-out predictions; empty if it would.

    Args:
        task: the task; if it consists of several, there must be nothing to win in any of them.
        probabilities: of images that the model has not seen, (n, C).
        targets: of these images.
        groups: name of each image's group, (n,).
    """
    parts = task.separate(targets)
    if len(parts) > 1:
        found = {
            part.name: nothing_to_win(part, probabilities[rows][:, outputs], own, groups[rows])
            for part, rows, own, outputs in parts
        }
        return "; ".join(f"{name}: {reason}" for name, reason in found.items()) if all(found.values()) else ""
    wrong = int((~task.correct(probabilities, targets)).sum())
    losses = task.log_losses(probabilities, targets)
    gain, error = paired_difference(losses, np.zeros_like(losses), groups)
    if wrong >= LEAST_DISCORDANT and error < math.inf and gain > quantile(1, len(np.unique(groups))) * error:
        return ""
    return f"{wrong:,} of {len(targets):,} wrong: nothing to win"


def quantile(tried: float, independent: int) -> float:
    """Return how many standard errors a gain must exceed, if it is the best of `tried` (Bonferroni's correction).

    Student's t, on one side: the error itself is estimated from so many independent groups (at least two).
    """
    return float(students_t.isf(SIZE / tried, independent - 1))
