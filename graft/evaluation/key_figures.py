"""The ten numbers of an evaluation that people compare between runs, as `dvc metrics show` prints them."""

from pathlib import Path

from graft.core.atomic import write_json
from graft.evaluation.schema import Evaluation

KEY_FIGURES_FILE = "key_figures.json"
METRICS = ("balanced_accuracy", "log_loss", "ece", "auroc")


def key_figures(found: Evaluation) -> dict[str, float | None]:
    """Return the key figures by name; None: these test images leave it undefined."""
    metric = found.task.headline
    first = found.test[metric]
    return {
        metric: first.value,
        f"{metric}_low": first.low,
        f"{metric}_high": first.high,
        **{name: found.test[name].value for name in METRICS if name in found.test},
        f"{metric}_of_head": found.head[metric].value,
        f"{metric}_of_guessing": found.baseline["majority"][metric].value,
        "test_images": found.images["test"],
    }


def write_key_figures(folder: Path, found: Evaluation) -> None:
    """Write `key_figures.json` into `folder`."""
    write_json(folder / KEY_FIGURES_FILE, key_figures(found))
