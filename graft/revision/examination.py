"""What an updated model leaves beside its bundle: numbers, page, predictions and scores on everything learnt so far."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from graft.continual.forgetting import measure_forgetting
from graft.continual.guard import accuracy_changes, guard_reasons, recall_changes
from graft.continual.state import head_logits
from graft.continual.update import Update
from graft.core.atomic import read_json_object, write_json, write_text
from graft.core.errors import DataError, ModelError
from graft.data.dataset import ImageDataset
from graft.evaluation.assessment import Sampling, SplitPredictions, assess
from graft.evaluation.held_out_table import prediction_table, write_predictions
from graft.evaluation.schema import write_evaluation
from graft.models.bundle import ModelBundle
from graft.params.update_model import UpdateModelParams
from graft.reports.update_page import render_update
from graft.serving.loading import FetchedModel
from graft.serving.training_images import TrainingImages

NUMBERS, PAGE = "update.json", "update.html"


def check_images(bundle: ModelBundle, images: ImageDataset) -> None:
    """Raise an error unless a model can read these images as it read those it was trained on.

    Raises:
        ModelError: if the model is not of one label per image, or was adapted to another domain.
        DataError: if the images have other channels.
    """
    if not bundle.task.exclusive:
        raise ModelError(f"the task {bundle.task.name!r} cannot be updated: an image must have exactly one label")
    if bundle.spec.two_views:
        raise ModelError(
            "the model was adapted to a domain: update the model that it was adapted from, then adapt again"
        )
    if images.spec.channels != bundle.transform.channels:
        raise DataError(
            f"the images have {images.spec.channels} channels, the model reads {bundle.transform.channels}; "
            f"set validate_data.channels={bundle.transform.channels}, or train anew"
        )


def examine(
    folder: Path, base: FetchedModel, update: Update, images: ImageDataset, params: UpdateModelParams
) -> dict[str, Any]:
    """Write the examination of an update into `folder`, and return its numbers.

    Args:
        folder: created here.
        base: the model before.
        update: the update.
        images: the new images.
        params: of the update.
    """
    folder.mkdir(parents=True)
    exam, names = update.exam, [one.name for one in update.state.history.experiences]
    found = measure_forgetting(exam, params.confidence, seed=params.seed)
    before, after = update.before, update.after
    experiences = accuracy_changes(exam, names, before, after, params.confidence)
    recalls = recall_changes(exam, before, after, params.confidence)
    reasons = guard_reasons(exam, names, before, after, update.chosen.method, params.tolerance, params.confidence)
    numbers: dict[str, Any] = {
        "headline": _headline(update, found.acc.value),
        "base": {"address": params.model, "name": base.name, "version": base.version},
        "method": update.chosen.method,
        "penalty": update.chosen.penalty,
        "reason": update.chosen.reason,
        "new_classes": list(update.new_classes),
        "known_before": update.known_before,
        "experiences": names,
        "continual": found.json(),
        "changes": [_plain(one) for one in experiences],
        "recall": [_plain(one) for one in recalls],
        "guard": reasons,
        "memory_bytes": memory_bytes(update),
        "calibrated": update.bundle.abstention is not None,
    }
    write_json(folder / NUMBERS, numbers)
    write_text(folder / PAGE, render_update(numbers, found, experiences, recalls, update.state.history))
    if exam.test.any():
        _write_scores(folder, update, images)
    seen = TrainingImages.of(images)
    earlier = TrainingImages.read(base.evidence) if base.evidence else None
    (seen.merged(earlier) if earlier else seen).write(folder)
    return numbers


def read_examination(folder: Path) -> dict[str, Any]:
    """Read the numbers of an examination.

    Raises:
        DataError: if the folder has none.
    """
    if not (folder / NUMBERS).is_file():
        raise DataError(f"{folder}: no examination here ({NUMBERS} is missing); run update_model")
    return read_json_object(folder / NUMBERS)


def memory_bytes(update: Update) -> int:
    """Return how many bytes the memory's tensors take in a file."""
    statistics, images = update.state.memory.statistics, len(update.state.memory.images)
    triangle = statistics.width * (statistics.width + 1) // 2
    return 8 * (triangle + statistics.means.size + len(statistics.counts)) + 12 * images


def _write_scores(folder: Path, update: Update, images: ImageDataset) -> None:
    """Write scores and predictions of the exam as `evaluate` writes those of a dataset."""
    bundle, exam = update.bundle, update.exam
    task = bundle.task
    targets = np.searchsorted(np.array(task.labels, dtype=str), exam.names).astype(np.int64)
    probabilities = bundle.probabilities(head_logits(bundle, exam.features))

    def split(rows: "np.ndarray[Any, np.dtype[np.bool_]]") -> SplitPredictions:
        return SplitPredictions(targets[rows], probabilities[rows], probabilities[rows], exam.groups[rows])

    counts = update.state.memory.statistics.counts
    learnt = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    sampling = Sampling(seed=0)
    digest = images.spec.digest
    evaluation = assess(
        split(exam.test), split(~exam.test), learnt, task=task, dataset_digest=digest, sampling=sampling
    )
    write_evaluation(folder, evaluation)
    table = pd.DataFrame({"id": [f"{image:016x}" for image in exam.images], "path": "", "label": exam.names})
    table["group"] = [f"{group:016x}" for group in exam.groups]
    table["split"] = np.where(exam.test, "test", "val")
    write_predictions(folder, prediction_table(table, task, {"": probabilities, "head_": probabilities}))


def _headline(update: Update, accuracy: float) -> str:
    latest = update.state.history.experiences[-1]
    learnt = f"learnt {latest.images:,} images by {update.chosen.method}"
    if update.new_classes:
        learnt += f", new: {', '.join(update.new_classes)}"
    if update.known_before:
        learnt += f"; {update.known_before:,} were known before"
    return learnt if np.isnan(accuracy) else f"{learnt}; accuracy {accuracy:.3f} over all experiences"


def _plain(one: Any) -> dict[str, Any]:
    return {**one._asdict(), "change": one.change.json()}
