"""What to label next: one image of each uncertain kind, typical of it, the kinds that weigh most first."""

import re

import numpy as np
import pytest

from graft.labelling.choice import FEW, UNLIKE, choose
from graft.labelling.pool import Pool

LABELS = ("ant", "bee", "cat")
SIZES = (40, 25, 15, 10, 60, 80)
"""Of the kinds of image in the pool: the model is unsure of the first four, and sure of the last two."""
UNSURE = 4


def _pool(ood: np.ndarray | None = None, repeats: int = 1) -> tuple[Pool, np.ndarray]:
    """Images of six kinds, far apart from each other; returns the kind of each as well."""
    generator = np.random.default_rng(0)
    kinds = np.repeat(np.arange(len(SIZES)), SIZES)
    features = 10 * np.eye(len(SIZES), 12)[kinds] + generator.normal(size=(len(kinds), 12))
    margin = np.where(kinds < UNSURE, 0.1, 0.98) + generator.uniform(0, 0.02, len(kinds))
    kinds, features, margin = (np.repeat(values, repeats, axis=0) for values in (kinds, features, margin))
    rest = np.zeros(len(kinds), np.int64)
    confidence = ((1 + margin) / 2).astype(np.float32)
    parts = tuple(np.array_split(features.astype(np.float16), 3))
    paths = tuple(f"{number}.png" for number in range(len(kinds)))
    return Pool(paths, LABELS, rest, rest + 1, confidence, margin.astype(np.float32), ood, parts), kinds


def test_one_image_of_each_uncertain_kind_the_weightiest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graft.labelling.choice.CANDIDATES", 22)
    pool, kinds = _pool()
    found = choose(pool, UNSURE, labelled=1000)
    rows = [one.row for one in found.next]
    assert kinds[rows].tolist() == [0, 1, 2, 3]
    # each is the one nearest to the middle of its kind
    features = pool.read(np.arange(len(pool)))
    for row, kind in zip(rows, range(UNSURE), strict=True):
        members = np.flatnonzero(kinds == kind)
        apart = np.linalg.norm(features[members] - features[members].mean(axis=0), axis=1)
        assert apart[members.tolist().index(row)] < np.quantile(apart, 0.3)
    assert re.fullmatch(r"ant \(5\d%\) or bee \(4\d%\); typical of \d\d such images", found.next[0].reason)
    assert found.unlike == ()


def test_a_model_of_few_labels_is_shown_all_kinds() -> None:
    """What it is sure of may be wrong, so its own doubt leaves no kind out."""
    pool, kinds = _pool()
    few = FEW * len(LABELS) - 1
    assert set(kinds[[one.row for one in choose(pool, 12, labelled=few).next]]) == set(range(len(SIZES)))
    many = choose(pool, 9, labelled=few + 1)  # the 90 most uncertain images are of four kinds
    assert set(kinds[[one.row for one in many.next]]) == set(range(UNSURE))
    assert choose(pool, 9, labelled=None).next == many.next
    assert "which is little" in choose(pool, 3, labelled=few).sentence


def test_images_unlike_the_training_images_stand_apart() -> None:
    pool, kinds = _pool(ood=np.full(sum(SIZES), 0.5, np.float32))
    scores = np.where(kinds == 1, 1.5, 0.5).astype(np.float32)
    scores[45] = 3.0
    apart, _ = _pool(ood=scores)
    found = choose(apart, UNSURE)
    assert 1 not in kinds[[one.row for one in found.next]]
    assert found.apart == 25
    assert len(found.unlike) == UNLIKE
    assert found.unlike[0].row == 45
    assert found.unlike[0].reason == "unlike the training images: score 3.00, above 1"
    assert choose(pool, UNSURE).unlike == ()
    # of another kind altogether: then none stands apart
    other, _ = _pool(ood=np.full(sum(SIZES), 1.2, np.float32))
    assert choose(other, UNSURE).unlike == ()
    assert len(choose(other, UNSURE).next) == UNSURE


def test_all_images_of_a_small_folder_are_listed_once() -> None:
    pool, _ = _pool()
    found = choose(pool, 1000)
    assert sorted(one.row for one in found.next) == list(range(len(pool)))
    assert found.next[0].row == int(pool.margin.argmin())


def test_copies_of_one_image_still_make_a_list() -> None:
    pool, _ = _pool()
    same = Pool(
        pool.paths, LABELS, pool.answer, pool.second, pool.confidence, pool.margin, None,
        (np.ones((len(pool), 4), np.float16),),
    )  # fmt: skip
    rows = [one.row for one in choose(same, 7).next]
    assert len(set(rows)) == 7


def test_an_empty_pool_has_no_list() -> None:
    nothing = np.zeros(0, np.float32)
    empty = Pool((), LABELS, nothing.astype(int), nothing.astype(int), nothing, nothing, None, ())
    assert choose(empty, 5).next == ()


def test_no_more_features_are_read_than_are_clustered(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, kinds = _pool(repeats=10)
    monkeypatch.setattr("graft.labelling.choice.MOST", 200)
    read = Pool.read
    asked = []
    monkeypatch.setattr(Pool, "read", lambda self, rows: asked.append(len(rows)) or read(self, rows))
    found = choose(pool, 6, labelled=0)
    assert set(kinds[[one.row for one in found.next]]) >= set(range(UNSURE))
    assert asked == [200]
