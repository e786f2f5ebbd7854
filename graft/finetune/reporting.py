"""Progress messages and logged metrics of fine-tuning; of several processes only the first one prints."""

import sys
from collections.abc import Callable, Mapping

from graft.runs.run_log import Log
from graft.training.distributed import this_process
from graft.training.stage import Stage

STEPS_PER_TRAINING = 1000
"""The curves of all trainings follow one another in the log: each starts at a multiple of this."""


def print_progress(text: str) -> None:
    """Write one line to stderr."""
    if this_process().is_first:
        print(f"fine_tune: {text}", file=sys.stderr, flush=True)


def print_gradient_norms(norms: Mapping[str, float]) -> None:
    """Print the norms by which surgical fine-tuning chooses the group."""
    print_progress("gradient relative to weights: " + ", ".join(f"{name} {norm:.2g}" for name, norm in norms.items()))


def held_out_reporter(
    stage: Stage, what: str, number: int, n_folds: int, log: Log
) -> Callable[[int, float, float | None], None]:
    """Return the function to call after every epoch of a training that is judged on held-out images.

    Args:
        stage: the stage that is trained.
        what: what is trained, such as "stage".
        number: of the training, from 0.
        n_folds: 0 if the validation images are held out.
        log: receives both losses.
    """
    folds = f", {n_folds} folds" if n_folds else ""

    def report(epoch: int, train_loss: float, held_out_loss: float | None) -> None:
        log.metric("train_loss", train_loss, step=number * STEPS_PER_TRAINING + epoch)
        told = ""
        if held_out_loss is not None:
            log.metric("held_out_loss", held_out_loss, step=number * STEPS_PER_TRAINING + epoch)
            told = f", held out {held_out_loss:.3f}"
        print_progress(f"{what} {stage.name}: epoch {epoch}/{stage.epochs}{folds}, loss {train_loss:.3f}{told}")

    return report


def full_fit_reporter(what: str, epochs: int) -> Callable[[int, float], None]:
    """Return the function to call after every epoch of a training without held-out images."""

    def report(epoch: int, loss: float) -> None:
        print_progress(f"{what}: epoch {epoch}/{epochs}, loss {loss:.3f}")

    return report
