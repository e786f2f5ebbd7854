"""Choosing a head from the memory: which closed form, and how strongly to shrink, by held-out log loss.

The kept validation images have been learnt as well. While a choice is made they are taken out of the statistics, which
is exact, so that they are predicted by heads that have not seen them; the chosen head then follows from everything. So
the choice depends on the memory and the exam alone, not on the order in which they grew.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graft.continual.class_statistics import ClassStatistics
from graft.continual.closed_form import PENALTIES, ClosedForm, solve
from graft.continual.exam import Exam
from graft.heads.linear_probe import Linear
from graft.heads.protocols import Floats
from graft.tasks.task import Bools, Task

UNTRIED: dict[ClosedForm, float] = {"lda": 0.1, "ridge": 0.1}
"""Penalties where no held-out image can choose one."""
ABSENT = -30.0
"""Logit, below the lowest, of a class that the held-out images' head does not know."""


@dataclass(frozen=True)
class ChosenHead:
    """A head, how it was chosen, and its predictions for images that it had not seen."""

    head: Linear
    method: str
    penalty: float
    temperature: float
    reason: str
    judged: Bools
    """Which validation images of the exam (m,) could be predicted unseen."""
    logits: Floats
    """Of those, (judged, C), by a head that had not learnt them."""


@dataclass(frozen=True)
class _Tried:
    method: ClosedForm
    penalty: float
    loss: float
    temperature: float
    logits: Floats


def choose_closed_form(
    statistics: ClassStatistics,
    validation: Exam,
    task: Task,
    methods: Sequence[ClosedForm],
    penalty: float | None = None,
    widths: Sequence[int] | None = None,
) -> ChosenHead:
    """Return the closed form with the least log loss on held-out images, learnt from everything.

    Args:
        statistics: of all images, those of `validation` among them.
        validation: held-out images that choose.
        task: what is learnt; its labels are those of `statistics`.
        methods: kinds to compare.
        penalty: to use; None: by held-out log loss.
        widths: number of features of each tap, where several are concatenated.
    """
    reduced = statistics
    if len(validation):
        reduced = statistics.without(ClassStatistics.of(validation.features, validation.names.tolist()))
    judged = np.isin(validation.names, np.array(reduced.labels, dtype=str))
    tried: list[_Tried] = []
    if judged.any():
        tried = _all_tried(reduced, validation.part(judged), task, methods, penalty, widths)
    best = min(tried, key=lambda one: one.loss) if tried else None
    method = best.method if best else methods[0]
    chosen = best.penalty if best else (penalty or UNTRIED[method])
    return ChosenHead(
        solve(method, statistics, widths).at(chosen),
        method,
        chosen,
        best.temperature if best else 1.0,
        _reason(tried, best, int(judged.sum())),
        judged,
        best.logits if best else np.zeros((0, task.outputs)),
    )


def _all_tried(
    reduced: ClassStatistics,
    held_out: Exam,
    task: Task,
    methods: Sequence[ClosedForm],
    penalty: float | None,
    widths: Sequence[int] | None,
) -> list[_Tried]:
    targets = np.searchsorted(np.array(task.labels, dtype=str), held_out.names).astype(np.int64)
    tried = []
    for method in methods:
        solution = solve(method, reduced, widths)
        for one in PENALTIES[method] if penalty is None else (penalty,):
            logits = widened(solution.at(one).logits(held_out.features), reduced.labels, task.labels)
            temperature = task.fit_temperature(logits, targets)
            loss = float(task.losses(logits / temperature, targets).mean())
            tried.append(_Tried(method, one, loss, temperature, logits))
    return tried


def widened(logits: Floats, labels: Sequence[str], wanted: Sequence[str]) -> Floats:
    """Return logits (n, C) of `labels` as logits of the classes `wanted`, those of unknown classes far below."""
    if tuple(labels) == tuple(wanted):
        return logits
    lowest = logits.min(axis=1, keepdims=True, initial=0.0)
    found = np.repeat(lowest + ABSENT, len(wanted), axis=1)
    place = {label: at for at, label in enumerate(wanted)}
    found[:, [place[label] for label in labels]] = logits
    return np.asarray(found, dtype=np.float64)


def _reason(tried: Sequence[_Tried], best: _Tried | None, images: int) -> str:
    if best is None:
        return "no held-out image to choose by"
    others = {one.method: one for one in sorted(tried, key=lambda one: -one.loss)}
    found = ", ".join(f"{one.method} {one.loss:.3f} at {one.penalty:g}" for one in others.values())
    return f"log loss of {images} held-out images: {found}"
