"""What fine-tuning tells the user, and its log, while it runs: of several processes the first alone speaks."""

import sys
from collections.abc import Callable, Mapping

from graft.finetune.distributed import this_process
from graft.finetune.stage_plan import Stage
from graft.runs.run_log import Log

STEPS_PER_STAGE = 1000
"""The curves of all stages follow one another in the log: each starts at a multiple of this."""


def say(text: str) -> None:
    """Write one line to stderr."""
    if this_process().is_first:
        print(f"fine_tune: {text}", file=sys.stderr, flush=True)


def say_gradient_norms(norms: Mapping[str, float]) -> None:
    """Tell what surgical fine-tuning chooses the group by."""
    say("gradient relative to weights: " + ", ".join(f"{name} {norm:.2g}" for name, norm in norms.items()))


def held_out_reporter(stage: Stage, number: int, n_folds: int, log: Log) -> Callable[[int, float, float], None]:
    """Return what to call after every epoch whose result is predicted on held-out images.

    Args:
        stage: that is trained.
        number: of the stage, from 0.
        n_folds: 0 where the validation images are held out.
        log: gets both losses.
    """
    folds = f", {n_folds} folds" if n_folds else ""

    def report(epoch: int, train_loss: float, held_out_loss: float) -> None:
        log.metric("train_loss", train_loss, step=number * STEPS_PER_STAGE + epoch)
        log.metric("held_out_loss", held_out_loss, step=number * STEPS_PER_STAGE + epoch)
        say(
            f"stage {stage.name}: epoch {epoch}/{stage.epochs}{folds}, loss {train_loss:.3f}, "
            f"held out {held_out_loss:.3f}"
        )

    return report


def full_fit_reporter(what: str, epochs: int) -> Callable[[int, float], None]:
    """Return what to call after every one of so many epochs in which nothing is held out."""

    def report(epoch: int, loss: float) -> None:
        say(f"{what}: epoch {epoch}/{epochs}, loss {loss:.3f}")

    return report
