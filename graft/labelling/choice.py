"""Which images to label next: uncertain ones that differ from each other, each typical of many like it.

Images are clustered by their features, each with the weight of the model's uncertainty about it, and the image nearest
to each centre is chosen (Zhdanov 2019, "Diverse mini-batch active learning"). A model that has seen few labels is sure
of the wrong things, so all images are candidates for it, and the centres are typical ones (Hacohen et al. 2022); later
the most uncertain are.

Images unlike the training images stand apart: among them are those of no class at all.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from graft.core.row_blocks import Array32, Indices
from graft.labelling.pool import Pool

FEW = 10
"""Labelled images of a class, on average, below which uncertainty chooses no candidates."""
CANDIDATES = 10
"""Most uncertain images for each one that is chosen."""
MOST = 10_000
"""Images that are clustered at most, evenly spaced; 50 MB of features."""
UNLIKE_SHARE = 0.5
"""If more than this part is unlike the training images, the images are of another kind, and none stands apart."""
UNLIKE = 20
"""Images that are shown apart at most."""


@dataclass(frozen=True)
class Chosen:
    """One image to label."""

    row: int
    """In the pool."""
    reason: str


@dataclass(frozen=True)
class Choice:
    """Images to label, the most instructive first."""

    next: tuple[Chosen, ...]
    unlike: tuple[Chosen, ...]
    """Images unlike the training images, the least alike first."""
    apart: int
    """How many of these there are."""
    sentence: str
    """How they were chosen."""


def choose(pool: Pool, count: int, labelled: int | None = None, seed: int = 0) -> Choice:
    """Choose images to label.

    Args:
        pool: the images to choose from.
        count: how many.
        labelled: images that the model has learnt from; None if that is not known: it may be many.
        seed: of the clustering.
    """
    unlike = np.zeros(len(pool), np.bool_) if pool.ood is None else pool.ood > 1
    if unlike.sum() > UNLIKE_SHARE * len(pool):
        unlike[:] = False
    rows, few = np.flatnonzero(~unlike), labelled is not None and labelled < FEW * len(pool.labels)
    if not few and len(rows) > CANDIDATES * count:
        rows = np.sort(rows[np.argsort(pool.margin[rows], kind="stable")[: CANDIDATES * count]])
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MOST)).astype(np.int64))] if len(rows) else rows
    found = _clustered(pool, rows, min(count, len(rows)), seed, few=few)
    apart = np.flatnonzero(unlike)
    if pool.ood is not None:
        apart = apart[np.argsort(-pool.ood[apart], kind="stable")]
    return Choice(
        tuple(Chosen(int(row), _reason(pool, row, alike)) for row, alike in found),
        tuple(Chosen(int(row), _unlike_reason(pool, row)) for row in apart[:UNLIKE]),
        len(apart),
        _sentence(len(pool.labels), labelled, few=few),
    )


def _clustered(pool: Pool, rows: Indices, count: int, seed: int, *, few: bool) -> list[tuple[int, int]]:
    """Return the image nearest to each centre and the size of its cluster, the weightiest cluster first."""
    if count == 0:
        return []
    # The doubt of a model of few labels says less, and must leave no kind of image out.
    weight = (1 - pool.margin[rows].astype(np.float64)) ** (0.5 if few else 1.0) + 1e-3
    if count == len(rows):
        return [(int(row), 1) for row in rows[np.argsort(-weight, kind="stable")]]
    directions = pool.read(rows)
    centres, cluster = _k_means(directions, weight, count, seed)
    found = []
    for number in np.argsort(-np.bincount(cluster, weight, minlength=count), kind="stable"):
        members = np.flatnonzero(cluster == number)
        if len(members):
            apart = np.square(directions[members] - centres[number]).sum(axis=1)
            found.append((int(rows[members[apart.argmin()]]), len(members)))
    missing = count - len(found)  # of copies of one image, clusters stay empty
    if missing:
        left = np.setdiff1d(rows, [row for row, _ in found])
        found += [(int(row), 1) for row in left[np.argsort(pool.margin[left], kind="stable")[:missing]]]
    return found


def _k_means(directions: Array32, weight: npt.NDArray[np.float64], count: int, seed: int) -> tuple[Array32, Indices]:
    import warnings

    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of fewer different images than clusters
        found = KMeans(count, n_init=1, max_iter=50, random_state=seed).fit(directions, sample_weight=weight)
    return found.cluster_centers_.astype(np.float32), found.labels_.astype(np.int64)


def _reason(pool: Pool, row: int, alike: int) -> str:
    confidence, margin = float(pool.confidence[row]), float(pool.margin[row])
    answer, second = pool.labels[pool.answer[row]], pool.labels[pool.second[row]]
    doubt = (
        f"{answer} ({confidence:.0%}) or {second} ({confidence - margin:.0%})"
        if margin < 0.5
        else f"the model says {answer} ({confidence:.0%})"
    )
    return f"{doubt}; typical of {alike} such images" if alike > 1 else doubt


def _unlike_reason(pool: Pool, row: int) -> str:
    assert pool.ood is not None
    return f"unlike the training images: score {pool.ood[row]:.2f}, above 1"


def _sentence(classes: int, labelled: int | None, *, few: bool) -> str:
    if few:
        return (
            f"The model has learnt from {labelled:,} images of {classes} classes, which is little: these are typical "
            "of many others, and first of those that it is unsure of."
        )
    return "The model is unsure of these, each is typical of many others, and they differ from each other."
