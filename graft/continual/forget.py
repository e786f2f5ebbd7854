"""Unlearning: a model as if it had never seen some images, exactly, where its head follows from statistics.

The images' contribution is taken out of the memory and their features out of the exam; head, temperature, prediction
sets and the out-of-distribution detector then follow anew. Adding the images again must give the memory of before: that
is checked, and its error reported.

A backbone that was trained on the images cannot be mended so: it is refused.
"""

from dataclasses import dataclass, replace

import numpy as np

from graft.continual.exam import Exam
from graft.continual.head_choice import choose_closed_form
from graft.continual.history import History
from graft.continual.memory import Memory, image_hashes
from graft.continual.state import ContinualState, LabelledFeatures, right_answers
from graft.continual.update import blank_exam, check_model, widths_of, with_head
from graft.core.errors import DataError, ModelError
from graft.heads.class_moments import ClassMoments
from graft.models.bundle import ModelBundle
from graft.tasks.task import Task

EXACT = 1e-6
"""Largest relative difference between the memory before and the one to which the images are added again."""


@dataclass(frozen=True)
class Forgotten:
    """A model without some images."""

    bundle: ModelBundle
    state: ContinualState
    learnt: int
    """Images taken out of the memory, copies counted."""
    examined: int
    """Images taken out of the exam."""
    error: float
    """Largest relative difference of the memory before and the one to which the images are added again."""


def forget_images(bundle: ModelBundle, state: ContinualState, data: LabelledFeatures) -> Forgotten:
    """Take images out of a model.

    Args:
        bundle: the model.
        state: what it keeps of its past.
        data: what its head reads of the images; their classes and splits do not matter.

    Raises:
        ModelError: if the backbone was trained on them, or the memory does not hold these features.
        DataError: if an image was never learnt, or fewer than two classes would be left.
    """
    check_unlearnable(bundle)
    check_model(bundle, state)
    ids = data.ids.tolist()
    known = state.memory.knows(ids) | (state.exam.knows(ids) if state.exam else np.zeros(len(ids), np.bool_))
    if not known.all():
        raise DataError(
            f"{(~known).sum():,} of {len(ids):,} images were never learnt, such as {ids[known.argmin()][:12]}"
        )
    gone = _learnt(state.memory, data)
    memory = state.memory.without(gone) if len(gone.images) else state.memory
    if len(memory.statistics.labels) < 2:
        raise DataError("fewer than two classes would be left; remove the model instead")
    error = _difference(state.memory, memory.merged(gone)) if len(gone.images) else 0.0
    if error > EXACT:
        raise ModelError(f"the images' features are not those that were learnt: the memory differs by {error:.1e}")
    exam = state.exam or blank_exam(state, len(state.history.experiences))
    left = exam.without(ids)
    left = left.part(np.isin(left.names, np.array(memory.statistics.labels, dtype=str)))
    task = bundle.task.model_copy(update={"labels": memory.statistics.labels})
    chosen = choose_closed_form(memory.statistics, left.validation, task, ("lda", "ridge"), None, widths_of(bundle))
    after = replace(
        with_head(bundle, chosen, left, task, bundle.spec.dataset_digest),
        moments=_moments(bundle, state, gone, data, task),
        sample=bundle.sample and bundle.sample.without(data.features),
    )
    left = _examined_again(left, after)
    history = _recorded(state.history, len(gone.images))
    kept = ContinualState(memory, None if state.exam is None else left, history)
    return Forgotten(after, kept, len(gone.images), len(exam) - len(exam.without(ids)), error)


def check_unlearnable(bundle: ModelBundle) -> None:
    """Raise an error if a model cannot forget exactly.

    Raises:
        ModelError: if its backbone was trained, or adapted to a domain.
    """
    if bundle.spec.trained_groups:
        raise ModelError(
            f"{', '.join(bundle.spec.trained_groups)} of the backbone were trained on the images: no statistics undo "
            "that; train again without them"
        )
    if bundle.spec.two_views:
        raise ModelError("the model was adapted to a domain: let the model that it was adapted from forget")


def _learnt(memory: Memory, data: LabelledFeatures) -> Memory:
    """Return the part of the memory that these images make up: each as often and as what it was learnt."""
    at = {int(image): row for row, image in enumerate(image_hashes(data.ids.tolist()))}
    places = np.flatnonzero(np.isin(memory.images, np.array(list(at), dtype=np.uint64)))
    rows = np.array([at[int(image)] for image in memory.images[places]], dtype=np.int64)
    names = [memory.statistics.labels[code] for code in memory.classes[places]]
    if not len(rows):
        return replace(memory, images=memory.images[:0], classes=memory.classes[:0])
    return Memory.of(data.features[rows], names, data.ids[rows].tolist(), memory.fingerprint, memory.taps)


def _moments(
    bundle: ModelBundle, state: ContinualState, gone: Memory, data: LabelledFeatures, task: Task
) -> ClassMoments | None:
    """Return the class moments without these images, for the classes that are left; None if that is not known.

    The moments are of all learnt images or, if the head was fitted without them, not of the first validation images.
    """
    moments, labels = bundle.moments, np.array(bundle.spec.labels, dtype=str)
    if moments is None or not len(gone.images):
        return moments
    held = np.zeros(0, np.uint64)
    if state.exam is not None:
        held = state.exam.images[~state.exam.test & (state.exam.experience == 0)]
    learnt = state.memory.images
    if moments.counts.sum() == len(learnt):
        counted = np.ones(len(gone.images), np.bool_)
    elif moments.counts.sum() == (~np.isin(learnt, held)).sum():
        counted = ~np.isin(gone.images, held)
    else:
        return None
    at = {int(image): row for row, image in enumerate(image_hashes(data.ids.tolist()))}
    rows = np.array([at[int(image)] for image in gone.images[counted]], dtype=np.int64)
    names = np.array(gone.statistics.labels, dtype=str)[gone.classes[counted]]
    targets = np.searchsorted(labels, names).astype(np.int64)
    left = moments.without(ClassMoments.of(data.features[rows], targets, len(labels)))
    kept = np.isin(labels, np.array(task.labels, dtype=str))
    return ClassMoments(left.counts[kept], left.means[kept], left.squares[kept])


def _difference(one: Memory, other: Memory) -> float:
    """Return the largest difference of means and scatter, relative to the largest entry."""
    pairs = [(getattr(one.statistics, name), getattr(other.statistics, name)) for name in ("means", "scatter")]
    return max(float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-30)) for a, b in pairs)


def _examined_again(exam: Exam, bundle: ModelBundle) -> Exam:
    """Return the exam with this model's answers in place of those of the model before it."""
    return replace(exam, answers=exam.answers[:-1]).examined(right_answers(bundle, exam))


def _recorded(history: History, images: int) -> History:
    *earlier, last = history.experiences
    return History(experiences=(*earlier, last.model_copy(update={"forgotten": last.forgotten + images})))
