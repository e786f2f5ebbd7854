"""Decides whether a stage is kept, on images that it was neither trained nor chosen on.

Held-out images do two things: they choose (the best epoch, the share of WiSE-FT, a temperature), and they judge. The
same images must not do both: the best of several noisy epochs looks better than it is. So the images are parted, whole
groups at a time. What four fifths choose is judged on the last fifth, each fifth has its turn, and all are pooled
(cross-fitting, Chernozhukov et al. 2018): every image judges, none what it has chosen. Halves would choose worse: a
temperature that is fitted on few errors varies a lot.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from graft.finetune.objective import Logits, correct
from graft.stats.model_comparison import paired_rates
from graft.stats.paired_difference import paired_difference
from graft.tasks.task import Bools, Targets, Task

Evidence = Literal["cross_validation", "validation"]
"""What judges a stage: all training images, each by a model that has not seen it, or the validation images."""
HELD_OUT: Mapping[Evidence, str] = {
    "cross_validation": "held-out training images",
    "validation": "validation images",
}
"""Names of the held-out images in messages."""
Groups = npt.NDArray[np.object_]
CLEAR = 2.0
"""A gain is clear from this many standard errors on. A useless stage is then kept in at most one of twenty draws, one
whose true gain is three standard errors in four of five."""
POWER = 0.8
"""How often the smallest gain that is told as visible would be seen."""
PARTS = 5
"""Parts of the held-out images: each is judged by what the others have chosen."""
GROWTH = 1.5
"""A complete training gains about as many times what its trial gains (digits, last group: 0.103 against 0.065)."""
BLOCKS = 10
"""Parts of the held-out images that are left out in turn to measure the error."""
FEW = 2_000
"""With more images than this, it no longer matters for the error that the temperatures were fitted."""
LEAST_DISCORDANT = 6
"""Two models must differ on this many images before McNemar's exact test (two-sided, 5 %) can tell them apart."""


@dataclass(frozen=True)
class HeldOut:
    """The images that choose and judge."""

    task: Task
    targets: Targets
    groups: Groups
    """Name of each image's group (n,); images of one group are not independent."""

    def parts(self, count: int) -> npt.NDArray[np.int64]:
        """Return the part of each image (n,): whole groups, shared out in turn in the order of their hashes."""
        names = sorted(set(self.groups), key=lambda name: hashlib.sha256(str(name).encode()).digest())
        place = {name: number % count for number, name in enumerate(names)}
        return np.array([place[name] for name in self.groups], dtype=np.int64)


class Selection:
    """The best candidate so far (an epoch, a share) by the choosers of each part of the images, and by all images.

    A candidate's loss is that at its own temperature, fitted on the images that choose: over-confidence, which one
    number takes away, is no harm. Only the best of each are stored, however many are offered.
    """

    def __init__(self, held_out: HeldOut, before: Logits) -> None:
        """Start with `before`, the logits (n, C) of the model that a candidate has to beat."""
        self.held_out, self.before = held_out, before
        parts = held_out.parts(PARTS)
        self._judges = [parts == part for part in range(PARTS)]
        self._everything = np.ones(len(parts), dtype=np.bool_)
        self._choosers = [*(~judges for judges in self._judges), self._everything]
        self.logits = [before] * (PARTS + 1)
        """What the choosers of each part have chosen, and at the end what all images have."""
        self.numbers = [0] * (PARTS + 1)
        """Of the candidates, from 1; 0: none was offered yet."""
        self._least = [math.inf] * (PARTS + 1)

    @property
    def after(self) -> Logits:
        """The logits (n, C) of the candidate that is best on all images."""
        return self.logits[-1]

    @property
    def best(self) -> int:
        """The number of the candidate that is best on all images."""
        return self.numbers[-1]

    @property
    def loss_before(self) -> float:
        """The mean loss of `before` on all images, at its own temperature."""
        return self._loss(self.before, self._everything)

    @property
    def loss(self) -> float:
        """The same of the candidate that is best on all images; infinite if none was offered."""
        return self._least[-1]

    def offer(self, number: int, logits: Logits) -> float:
        """Consider a candidate's logits (n, C); return its mean loss on all images."""
        for slot, chooser in enumerate(self._choosers):
            loss = self._loss(logits, chooser)
            if loss < self._least[slot]:
                self._least[slot], self.logits[slot], self.numbers[slot] = loss, logits, number
        return loss

    def comparison(self) -> "Comparison":
        """Compare with `before`: each image by what the other parts have chosen, at the temperature fitted there."""
        before, after = self._judged([self.before] * PARTS, self._everything), self.judged()
        found = Comparison.of(self.held_out, before, after)
        return replace(found, error=max(found.error, self._jackknifed_error()))

    def judged(self) -> Logits:
        """Return logits (n, C): of each image by what the other parts chose, divided by the temperature there."""
        return self._judged(self.logits, self._everything)

    def state(self) -> dict[str, torch.Tensor]:
        """Return everything that `restore` needs, as tensors by name."""
        logits = {f"logits.{slot}": torch.from_numpy(found.copy()) for slot, found in enumerate(self.logits)}
        return logits | {"numbers": torch.tensor(self.numbers), "least": torch.tensor(self._least, dtype=torch.float64)}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from a `state`."""
        self.logits = [state[f"logits.{slot}"].numpy() for slot in range(PARTS + 1)]
        self.numbers, self._least = state["numbers"].tolist(), state["least"].tolist()

    def _loss(self, logits: Logits, chooser: Bools) -> float:
        if not chooser.any():
            return math.inf
        task, targets = self.held_out.task, self.held_out.targets[chooser]
        temperature = task.fit_temperature(logits[chooser], targets)
        return float(task.losses(logits[chooser] / temperature, targets).mean())

    def _judged(self, chosen: Sequence[Logits], images: Bools) -> Logits:
        """Return logits (m, C) of some of the images, each by what the other parts of them have chosen."""
        task, targets = self.held_out.task, self.held_out.targets
        found = np.array(self.before, dtype=np.float32)
        for judges, logits in zip(self._judges, chosen[:PARTS], strict=True):
            fits = ~judges & images
            if judges.any() and fits.any():
                found[judges] = logits[judges] / task.fit_temperature(logits[fits], targets[fits])
        return found[images]

    def _jackknifed_error(self) -> float:
        """Return the standard error of the gain (delete-a-block jackknife, Quenouille 1956, Tukey 1958).

        Fitted temperatures vary from sample to sample, and with them all losses at once: the error of a mean over
        images does not see that, and is a fifth too small for a hundred images.
        """
        blocks, task, targets = self.held_out.parts(BLOCKS), self.held_out.task, self.held_out.targets
        numbers = np.unique(blocks)
        if len(numbers) < 2 or len(blocks) > FEW:
            return 0.0
        gains = []
        for number in numbers:
            rest = blocks != number
            before, after = (self._judged(logits, rest) for logits in ([self.before] * PARTS, self.logits))
            gains.append(float((task.losses(before, targets[rest]) - task.losses(after, targets[rest])).mean()))
        return float(np.sqrt((len(numbers) - 1) * np.var(gains)))


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

    @classmethod
    def of(
        cls,
        held_out: HeldOut,
        before: Logits,
        after: Logits,
    ) -> "Comparison":
        """Compare logits (n, C) of the same images, both divided by their temperatures."""
        losses_before, losses_after = (held_out.task.losses(each, held_out.targets) for each in (before, after))
        gain, error = paired_difference(losses_before, losses_after, held_out.groups)
        right_before, right_after = (correct(held_out.task, each, held_out.targets) for each in (before, after))
        return cls(
            gain=gain,
            error=error,
            loss_before=float(losses_before.mean()),
            loss_after=float(losses_after.mean()),
            right_before=int(right_before.sum()),
            right_after=int(right_after.sum()),
            less_accurate=paired_rates(right_after, right_before, held_out.groups).difference.high < 0,
            images=len(before),
        )

    def clear(self, tried: int = 1) -> bool:
        """Return whether the gain is more than chance, if it is the best of `tried` stages."""
        return self.gain > quantile(tried) * self.error and self.error < math.inf and not self.less_accurate

    @property
    def clearly_worse(self) -> bool:
        """Whether the loss is more than chance explains, or the number of wrong answers is."""
        return self.gain < -quantile(1) * self.error or self.less_accurate

    def on_the_way(self, images: int, tried: int) -> bool:
        """Return whether the gain may still become clear: it would if it grew by `GROWTH` and one standard error.

        Args:
            images: number of images that will judge the complete stage; their error is smaller if they are more.
            tried: number of stages of which the best is taken.
        """
        complete = self.error * math.sqrt(self.images / images)
        return GROWTH * self.gain + self.error > quantile(tried) * complete and not self.less_accurate

    def visible(self, tried: int = 1) -> float:
        """Return the smallest gain that these images would have shown in four of five cases."""
        return (quantile(tried) + NormalDist().inv_cdf(POWER)) * self.error

    def describe(self, tried: int = 1) -> str:
        """Return the comparison in words."""
        return (
            f"log loss {self.loss_before:.3f} -> {self.loss_after:.3f} (gain {self.gain:.3f}, standard error "
            f"{self.error:.3f}, visible from {self.visible(tried):.3f} on), right {self.right_before} -> "
            f"{self.right_after} of {self.images:,}"
        )


@dataclass(frozen=True)
class Verdict:
    """Whether a stage is kept, and why."""

    kept: bool
    reason: str


def held_out_verdict(found: Comparison, evidence: Evidence, *, requested: bool, tried: int = 1) -> Verdict:
    """Judge a stage by the images that were held out from its training.

    Args:
        found: on these images.
        evidence: which they are.
        requested: whether the user requested exactly this stage: then it is kept, and told what it brought.
        tried: number of stages of which this one looked best.
    """
    told = f"{HELD_OUT[evidence]}: {found.describe(tried)}"
    if requested:
        return Verdict(True, f"kept as asked for ({_brought(found)}); {told}")
    if found.less_accurate:
        return Verdict(False, f"rolled back: clearly fewer right answers; {told}")
    return (
        Verdict(True, f"kept; {told}") if found.clear(tried) else Verdict(False, f"rolled back: no clear gain; {told}")
    )


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
        task: the task.
        probabilities: of images that the model has not seen, (n, C).
        targets: of these images.
        groups: name of each image's group, (n,).
    """
    wrong = int((~task.correct(probabilities, targets)).sum())
    losses = task.log_losses(probabilities, targets)
    gain, error = paired_difference(losses, np.zeros_like(losses), groups)
    if wrong >= LEAST_DISCORDANT and gain > quantile(1) * error:
        return ""
    return f"{wrong:,} of {len(targets):,} wrong: nothing to win"


def quantile(tried: int) -> float:
    """Return how many standard errors a gain must exceed, if it is the best of `tried` (Bonferroni's correction)."""
    return -NormalDist().inv_cdf(NormalDist().cdf(-CLEAR) / tried)
