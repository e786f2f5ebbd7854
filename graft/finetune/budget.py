"""What fine-tuning may cost: forward passes, counted; or time, if the user asks for that.

Work is counted in passes of one image through the reused groups, by floating-point operations, so that `auto` means the
same on every machine and in every run. A time needs a clock: the seconds per pass are measured while the first stage is
tried, and every decision that rests on them is stored, so that a resumed run decides alike.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from graft.training.checkpoints import Checkpoints

AUTO_PASSES = 60
"""With `auto`, stages cost at most as many forward passes of each image."""
BACKWARD = 2
"""The backward pass of a group costs this many times its forward pass."""
SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class StageCost:
    """What a stage costs per image, in forward passes through all reused groups."""

    frozen: float
    trained: float
    """Share of the groups' operations; both add up to one."""
    cached: bool
    """Whether the activations of the frozen groups are computed once for each view, or in every epoch."""
    views: int

    @classmethod
    def of(cls, operations: Sequence[int], first_trained: int, *, cached: bool, views: int) -> "StageCost":
        """Return the cost, given every group's operations and the position of the first trained group."""
        frozen = sum(operations[:first_trained]) / sum(operations)
        return cls(frozen, 1.0 - frozen, cached, views)

    def passes(self, epochs: int, images: int, trained_images: int) -> float:
        """Return the passes of a stage.

        Args:
            epochs: of every training.
            images: number of different images.
            trained_images: number of images of all trainings together: folds, all images, refit.
        """
        through_frozen = images * min(epochs, self.views) if self.cached else trained_images * epochs
        return self.frozen * through_frozen + (1 + BACKWARD) * self.trained * trained_images * epochs


class Budget:
    """What was spent, and what still fits."""

    def __init__(self, asked: str, images: int, checkpoints: Checkpoints, allowed: float | None = None) -> None:
        """Start the clock.

        Args:
            asked: `auto`, `none` or a time such as 90s, 5m or 1h.
            images: number of training and validation images.
            checkpoints: remember decisions.
            allowed: seconds that the budget of the whole run leaves, if it has one; both limits count.
        """
        self.seconds = float(asked[:-1]) * SECONDS[asked[-1]] if asked[-1:] in SECONDS and asked[0].isdigit() else None
        self.name = f"budget of {asked}"
        if allowed is not None and (self.seconds is None or allowed < self.seconds):
            self.seconds, self.name = allowed, f"{allowed:.0f} s left of the run's budget"
        self._checkpoints = checkpoints
        self._passes_left = AUTO_PASSES * images if asked == "auto" else float("inf")
        self._passes = 0.0
        self._started = time.monotonic()

    def spend(self, passes: float) -> None:
        """Record that work was done."""
        self._passes += passes
        self._passes_left -= passes

    def epochs_that_fit(self, name: str, cost: StageCost, most: int, images: int, trained_images: int) -> int:
        """Return how many epochs of a stage fit, 0 to `most`; the arguments are those of `StageCost.passes`.

        With a time, the first call must follow some work, from which the seconds per pass are known; before that,
        everything fits.
        """

        def fitting() -> list[float]:
            spent = time.monotonic() - self._started
            left = self._passes_left
            if self.seconds is not None:
                left = min(left, (self.seconds - spent) * self._passes / spent if self._passes else float("inf"))
            fits = [n for n in range(1, most + 1) if cost.passes(n, images, trained_images) <= left]
            return [max(fits, default=0), spent]

        if self.seconds is None:
            return int(fitting()[0])
        epochs, spent = self._checkpoints.decision(name, fitting)
        # What an interrupted run had spent counts too.
        self._started = min(self._started, time.monotonic() - spent)
        return int(epochs)
