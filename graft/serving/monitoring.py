"""Predict a folder of images, and check for drift against the images that the model was tested on."""

import tempfile
from pathlib import Path
from typing import Any

from graft.core.errors import DataError
from graft.runs.run_log import Log
from graft.serving.batch_prediction import CSV, PARQUET, BatchModel, predict_folder
from graft.serving.drift_page import NUMBERS, PAGE, headline, next_step, write_drift
from graft.stats.drift import Drift, detect_drift

KEPT = (PAGE, NUMBERS)


def predict_and_compare(address: str, folder: Path, out: Path, log: Log) -> dict[str, Any]:
    """Write the tables of predictions and the drift page into `out`.

    Args:
        address: of the model: a bundle's folder, `models:/name@champion` or `models:/name/3`.
        folder: of images, with any subfolders.
        out: created if missing; an interrupted run resumes there.
        log: receives the numbers and the page.

    Returns:
        Plain numbers: images, errors, reused, abstained, drift of labels, confidence and features.

    Raises:
        DataError: if no image can be read.
        GraftError: if the model does not exist.
    """
    with tempfile.TemporaryDirectory() as work:
        model = BatchModel.load(address, Path(work))
    result = predict_folder(model, folder, out)
    if result.errors == result.images:
        raise DataError(f"{folder}: none of {result.images} image files can be read; {out / CSV} says why")
    labels = model.bundle.task.categories
    drifts = [
        detect_drift(reference, seen, len(one.task.categories))
        for one, reference, seen in zip(
            model.bundle.by_task,
            (model.reference, *model.further_references),
            (result.seen, *result.further_seen),
            strict=True,
        )
    ]
    drift = drifts[0]
    write_drift(out, address, labels, result, model.reference, drift)
    numbers = {"images": result.images, "errors": result.errors}
    optional = {"abstained": result.abstained, "foreign": drift.foreign}
    measured = numbers | _distances(drift) | {name: value for name, value in optional.items() if value is not None}
    others = dict(zip((one.task.name for one in model.bundle.further), drifts[1:], strict=True))
    for task, other in others.items():
        measured |= {f"tasks.{task}.{name}": value for name, value in _distances(other).items()}
    for name, value in measured.items():
        log.metric(name, value)
    for name in KEPT:
        log.artifact(out / name)
    log.tag("model", address)
    drifted = [task for task, other in others.items() if other.drifted]
    log.tag("drifted", str(drift.drifted or bool(drifted)).lower())
    summary = {
        "headline": headline(drift),
        "next_step": next_step(drift),
        "drifted": drift.drifted or bool(drifted),
        "reused": result.reused,
    }
    if others:
        summary["drifted_tasks"] = [*([model.bundle.task.name] if drift.drifted else []), *drifted]
    return measured | summary | {"table": str(out / PARQUET), "page": str(out / PAGE)}


def _distances(drift: Drift) -> dict[str, float]:
    shifts = {"labels": drift.labels, "confidence": drift.confidence, "features": drift.features}
    return {f"drift.{name}": shift.distance for name, shift in shifts.items() if shift}
