"""Photos with masks, and photos with objects, from a folder to a registered model, as a user starts it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.local.summary import Summary
from tests.pipelines.test_end_to_end import files, run
from tests.support.drawn_masks import write_pairs
from tests.support.drawn_objects import write_coco

QUICK = (
    "extract_features.image_size=64 fine_tune.enabled=false evaluate.bootstrap=100 evaluate.random_init=false "
    "evaluate.learning_curve=false register_model.max_milliseconds=60000"
)
NAMES = "validate_data.mask_values={0: background, 1: disc, 2: square, 3: triangle}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "write", "metric"), [("segment", write_pairs, "mean_iou"), ("instances", write_coco, "mask_ap")]
)
def test_a_folder_becomes_a_registered_model(
    root: Path, tmp_path: Path, store: Path, task: str, write: Callable[[Path, int], Path], metric: str
) -> None:
    data, out = write(tmp_path / "shapes", 24), tmp_path / "out"
    named = f' "{NAMES}"' if task == "segment" else ""
    done = run(root, data, out, f"validate_data.task={task} {QUICK}{named}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert files(out) == {"model", "report.html", "review", "run.log", "steps", "summary.json", "validation"}
    summary = Summary.model_validate(json.loads((out / "summary.json").read_text()))
    assert summary.model.version == 1
    assert summary.metrics["test"][metric].value > 0
    assert f"test {metric}" in done.stdout
