"""The ten numbers of an evaluation that people compare between runs, as `dvc metrics show` prints them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


def write_key_figures(folder: Path, found: Evaluation, further: Sequence[Evaluation] = ()) -> None:
    """Write `key_figures.json` into `folder`; of several tasks, those of each are also under `tasks`."""
    figures: dict[str, Any] = key_figures(found)
    if further:
        figures["tasks"] = {one.task.name: key_figures(one) for one in (found, *further)}
    write_json(folder / KEY_FIGURES_FILE, figures)
