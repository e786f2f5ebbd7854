"""Average precision and recall of boxes and masks, by COCO's rules (Lin et al., ECCV 2014), equal to pycocotools."""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from graft.objects.instance import Instance
from graft.objects.run_length import overlaps

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Photos = Sequence[Sequence[Instance]]
Shape = Literal["box", "mask"]
OVERLAPS: Floats = np.linspace(0.5, 0.95, 10)
RECALLS: Floats = np.linspace(0.0, 1.0, 101)
MOST_ANSWERS = 100
"""Answers of one class that count in a photo, the surest ones."""
NAMES = ("ap", "ap50", "ap75", "ar")


class Matches(NamedTuple):
    """All answers of one class, and what each of them found."""

    photo: npt.NDArray[np.int64]
    """Index of the photo of every answer (d,)."""
    score: Floats
    """(d,)"""
    right: Bools
    """Whether it found an object, by least overlap, (10, d)."""
    ignored: Bools
    """Whether it lies in a crowd and does not count, (10, d)."""
    objects: npt.NDArray[np.int64]
    """Number of objects of every photo (n,), crowds left out."""


def match(truth: Photos, answers: Photos, classes: int, shape: Shape = "mask") -> list[Matches]:
    """Match answers with objects, for every class: the surest answer first takes what it overlaps most.

    Args:
        truth: the objects of every photo.
        answers: the answers for every photo, in the same order.
        classes: number of kinds of object.
        shape: what overlaps.
    """
    return [_of_class(truth, answers, label, shape) for label in range(classes)]


def scores(matches: Sequence[Matches], weights: npt.NDArray[np.floating] | None = None) -> dict[str, float]:
    """Return the means over classes: AP (over overlaps of 0.5 to 0.95), AP50, AP75 and AR; NaN without any object.

    Args:
        matches: of every class.
        weights: how often each photo counts (n,); None: once.
    """
    found = [one for one in (class_scores(each, weights) for each in matches) if one is not None]
    means = np.mean(found, axis=0) if found else np.full(len(NAMES), np.nan)
    return dict(zip(NAMES, means.tolist(), strict=True))


def class_scores(matches: Matches, weights: npt.NDArray[np.floating] | None = None) -> tuple[float, ...] | None:
    """Return AP, AP50, AP75 and AR of one class; None if no photo has such an object."""
    objects = float(matches.objects.sum() if weights is None else matches.objects @ weights)
    if not objects:
        return None
    order = np.argsort(-matches.score, kind="stable")
    counted = np.ones(len(order)) if weights is None else weights[matches.photo[order]]
    right, ignored = matches.right[:, order], matches.ignored[:, order]
    true = np.cumsum((right & ~ignored) * counted, axis=1)
    false = np.cumsum((~right & ~ignored) * counted, axis=1)
    if not len(order):
        return 0.0, 0.0, 0.0, 0.0
    recall = true / objects
    precision = true / np.maximum(true + false, np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    curve = np.zeros((len(OVERLAPS), len(RECALLS)))
    for at in range(len(OVERLAPS)):
        place = np.searchsorted(recall[at], RECALLS, side="left")
        reached = place < len(order)
        curve[at, reached] = precision[at, place[reached]]
    means = curve.mean(axis=1)
    return float(means.mean()), float(means[0]), float(means[5]), float(recall[:, -1].mean())


class Counts(NamedTuple):
    """Objects of every photo at one score, each (n,)."""

    found: Floats
    missed: Floats
    spurious: Floats

    @property
    def f1(self) -> Floats:
        """F1 of every photo; 1 for one without objects that is left empty."""
        total = 2 * self.found + self.missed + self.spurious
        return np.where(total > 0, 2 * self.found / np.maximum(total, 1), 1.0)


def counts_at(matches: Sequence[Matches], score: float) -> Counts:
    """Return how many objects are found, missed and invented by answers of at least this score, at an overlap of 0.5.

    Greedy matching goes from the surest answer down, so leaving out weaker ones changes nothing above them.
    """
    photos = len(matches[0].objects)
    found, spurious, objects = np.zeros(photos), np.zeros(photos), np.zeros(photos)
    for one in matches:
        sure = one.score >= score
        found += np.bincount(one.photo[sure & one.right[0] & ~one.ignored[0]], minlength=photos)
        spurious += np.bincount(one.photo[sure & ~one.right[0] & ~one.ignored[0]], minlength=photos)
        objects += one.objects
    return Counts(found, objects - found, spurious)


def best_score(matches: Sequence[Matches]) -> float | None:
    """Return the score at which F1 of all objects is highest; None if nothing can be found."""
    values = np.concatenate([one.score for one in matches])
    right = np.concatenate([one.right[0] & ~one.ignored[0] for one in matches])
    counted = np.concatenate([~one.ignored[0] for one in matches])
    objects = sum(int(one.objects.sum()) for one in matches)
    if not right.any():
        return None
    order = np.argsort(-values, kind="stable")
    true, made = np.cumsum(right[order]), np.cumsum(counted[order])
    last = np.append(values[order][1:] != values[order][:-1], True)  # equal scores are taken together
    f1 = np.where(last, 2 * true / (made + objects), -1.0)
    return float(values[order][int(f1.argmax())])


def _of_class(truth: Photos, answers: Photos, label: int, shape: Shape) -> Matches:
    parts = list(_photos(truth, answers, label, shape))
    photo = np.repeat(np.arange(len(parts)), [len(score) for score, *_ in parts])
    width = len(OVERLAPS)
    joined = [np.concatenate([np.zeros((width, 0), np.bool_), *(part[at] for part in parts)], axis=1) for at in (1, 2)]
    score = np.concatenate([np.zeros(0), *(part[0] for part in parts)])
    return Matches(photo, score, joined[0], joined[1], np.array([part[3] for part in parts], dtype=np.int64))


def _photos(truth: Photos, answers: Photos, label: int, shape: Shape) -> Iterator[tuple[Floats, Bools, Bools, int]]:
    for objects, given in zip(truth, answers, strict=True):
        own = sorted((one for one in objects if one.label == label), key=lambda one: one.crowd)
        got = sorted((one for one in given if one.label == label), key=lambda one: -one.score)[:MOST_ANSWERS]
        right, ignored = _greedy(_overlaps(got, own, shape), np.array([one.crowd for one in own], dtype=np.bool_))
        yield np.array([one.score for one in got]), right, ignored, sum(not one.crowd for one in own)


def _overlaps(answers: Sequence[Instance], truth: Sequence[Instance], shape: Shape) -> Floats:
    crowd = [one.crowd for one in truth]
    if shape == "mask":
        return overlaps([one.code for one in answers], [one.code for one in truth], crowd)
    a = np.array([one.box for one in answers], dtype=np.float64).reshape(-1, 1, 4)
    b = np.array([one.box for one in truth], dtype=np.float64).reshape(1, -1, 4)
    sides = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    both = np.clip(sides, 0, None).prod(axis=2)
    area = a[..., 2:].prod(axis=2)
    below = np.where(np.array(crowd, dtype=np.bool_), area, area + b[..., 2:].prod(axis=2) - both)
    found: Floats = np.divide(both, below, out=np.zeros_like(both), where=below > 0)
    return found


def _greedy(overlap: Floats, crowd: Bools) -> tuple[Bools, Bools]:
    """Return which answers (d, objects) are right and which lie in a crowd, by least overlap, each (10, d)."""
    count, objects = overlap.shape
    right, ignored = (np.zeros((len(OVERLAPS), count), np.bool_) for _ in range(2))
    if not objects:
        return right, ignored
    free = np.ones((len(OVERLAPS), objects), np.bool_)
    least = np.minimum(OVERLAPS, 1 - 1e-10)[:, None]
    for at in range(count):
        fits = overlap[at][None] >= least
        for there, mark in ((fits & free & ~crowd, right), (fits & crowd, ignored)):
            # of equally good objects COCO takes the last
            best = objects - 1 - np.where(there, overlap[at][None], -1.0)[:, ::-1].argmax(axis=1)
            chosen = there.any(axis=1) & ~right[:, at]
            mark[chosen, at] = True
            if mark is right:
                free[chosen, best[chosen]] = False
    return right, ignored


def best_overlaps(truth: Sequence[Instance], answers: Sequence[Instance]) -> Floats:
    """Return the largest overlap of each object's mask with an answer of its class, (n,); 0 without one."""
    same = np.array([[one.label == other.label for other in truth] for one in answers], dtype=np.bool_)
    same = same.reshape(len(answers), len(truth))
    found: Floats = np.where(same, _overlaps(answers, truth, "mask"), 0.0).max(axis=0, initial=0.0)
    return found


class Sorted(NamedTuple):
    """The objects of one photo, sorted by what became of them."""

    right: list[Instance]
    """Answers that found an object."""
    spurious: list[Instance]
    missed: list[Instance]
    """Objects of the truth."""


def sort_out(truth: Sequence[Instance], answers: Sequence[Instance], least: float = 0.5) -> Sorted:
    """Return which answers found an object at this overlap and which did not, and the objects that none found."""
    order = sorted(answers, key=lambda one: -one.score)
    overlap = _overlaps(order, truth, "mask")
    found = Sorted([], [], [])
    taken: set[int] = set()
    for at, one in enumerate(order):
        near = [to for to, other in enumerate(truth) if other.label == one.label and overlap[at, to] >= least]
        own = [to for to in near if not truth[to].crowd and to not in taken]
        if own:
            taken.add(max(own, key=lambda to: (overlap[at, to], to)))
            found.right.append(one)
        elif not any(truth[to].crowd for to in near):
            found.spurious.append(one)
    found.missed.extend(one for to, one in enumerate(truth) if to not in taken and not one.crowd)
    return found
