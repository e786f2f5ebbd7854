"""Predict a folder of images, check for drift, and list the images that are worth a label next."""

import tempfile
from pathlib import Path
from typing import Any

from graft.batch_prediction.drift_page import (
    MAX_PICTURES,
    NUMBERS,
    PAGE,
    TaskDrift,
    headline_of,
    next_step,
    pictures_of,
    write_drift,
)
from graft.batch_prediction.folder_prediction import BatchModel, predict_folder
from graft.batch_prediction.tables import CSV, PARQUET, BatchResult, strangest
from graft.core.errors import DataError
from graft.data.label_queue import labelled_paths
from graft.labelling.choice import choose
from graft.labelling.kept_features import keeps_features, pool_of
from graft.labelling.to_label import PAGE as LIST_PAGE
from graft.labelling.to_label import QUEUE, write_list
from graft.models.bundle import ModelBundle
from graft.runs.run_log import Log
from graft.stats.drift import Drift, detect_drift

KEPT = (PAGE, NUMBERS)
TO_LABEL = 100


def predict_and_compare(address: str, folder: Path, out: Path, log: Log, to_label: int = TO_LABEL) -> dict[str, Any]:
    """Write the tables of predictions, the drift page and the list of images to label into `out`.

    Args:
        address: of the model: a bundle's folder, `models:/name@champion` or `models:/name/3`.
        folder: of images, with any subfolders.
        out: created if missing; an interrupted run resumes there.
        log: receives the numbers and the page.
        to_label: how many images the list has at most; 0: there is none.

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
    samples = ((model.reference, result.seen), *zip(model.further_references, result.further_seen, strict=True))
    tasks = [
        TaskDrift(
            one.task.name,
            one.task.categories,
            seen,
            reference,
            detect_drift(reference, seen, len(one.task.categories)),
        )
        for one, (reference, seen) in zip(model.bundle.by_task, samples, strict=True)
    ]
    strange = strangest(result, model.bundle, MAX_PICTURES)
    write_drift(out, address, result, tasks, pictures_of(strange, folder, model.bundle.transform))
    listed = _list_to_label(model.bundle, folder, out, result, to_label)
    drift = tasks[0].drift
    numbers = {"images": result.images, "errors": result.errors}
    optional = {"abstained": result.abstained, "foreign": drift.foreign}
    measured = numbers | _distances(drift) | {name: value for name, value in optional.items() if value is not None}
    for one in tasks[1:]:
        measured |= {f"tasks.{one.name}.{name}": value for name, value in _distances(one.drift).items()}
    for name, value in measured.items():
        log.metric(name, value)
    for name in KEPT:
        log.artifact(out / name)
    log.tag("model", address)
    drifted = [one for one in tasks if one.drift.drifted]
    log.tag("drifted", str(bool(drifted)).lower())
    summary = {
        "headline": headline_of(tasks),
        "next_step": next((next_step(one.drift) for one in drifted), ""),
        "drifted": bool(drifted),
        "reused": result.reused,
        "to_label": listed,
        "to_label_page": str(out / LIST_PAGE) if listed else "",
    }
    if len(tasks) > 1:
        summary["drifted_tasks"] = [one.name for one in drifted]
    return measured | summary | {"table": str(out / PARQUET), "page": str(out / PAGE)}


def _list_to_label(bundle: ModelBundle, folder: Path, out: Path, result: BatchResult, count: int) -> str:
    """Write which images to label next; return the file, empty if there is none."""
    for name in (QUEUE, LIST_PAGE):
        (out / name).unlink(missing_ok=True)  # of earlier images
    if count == 0 or not keeps_features(bundle):
        return ""
    pool = pool_of(bundle, result.parts, labelled_paths(folder))
    if not len(pool):
        return ""
    moments = bundle.moments
    choice = choose(pool, count, None if moments is None else int(moments.counts.sum()))
    write_list(out, folder, pool, choice, bundle.transform)
    return str(out / QUEUE)


def _distances(drift: Drift) -> dict[str, float]:
    shifts = {"labels": drift.labels, "confidence": drift.confidence, "features": drift.features}
    return {f"drift.{name}": shift.distance for name, shift in shifts.items() if shift}
