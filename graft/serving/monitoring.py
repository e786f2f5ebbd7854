"""Predict a folder of images, and check for drift against the images that the model was tested on."""

import tempfile
from pathlib import Path
from typing import Any

from graft.core.errors import DataError
from graft.runs.run_log import Log
from graft.serving.batch_prediction import CSV, PARQUET, BatchModel, predict_folder
from graft.serving.drift_page import NUMBERS, PAGE, headline, next_step, write_drift
from graft.stats.drift import detect_drift

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
    labels = model.bundle.task.answer_names
    drift = detect_drift(model.reference, result.seen, len(labels))
    write_drift(out, address, labels, result, model.reference, drift)
    numbers = {"images": result.images, "errors": result.errors}
    shifts = {"labels": drift.labels, "confidence": drift.confidence, "features": drift.features}
    distances = {f"drift.{name}": shift.distance for name, shift in shifts.items() if shift}
    optional = {"abstained": result.abstained, "foreign": drift.foreign}
    measured = numbers | distances | {name: value for name, value in optional.items() if value is not None}
    for name, value in measured.items():
        log.metric(name, value)
    for name in KEPT:
        log.artifact(out / name)
    log.tag("model", address)
    log.tag("drifted", str(drift.drifted).lower())
    summary = {
        "headline": headline(drift),
        "next_step": next_step(drift),
        "drifted": drift.drifted,
        "reused": result.reused,
    }
    return measured | summary | {"table": str(out / PARQUET), "page": str(out / PAGE)}
