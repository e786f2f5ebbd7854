"""Average precision equals pycocotools, crowds and empty photos included."""

import contextlib
import io
from dataclasses import replace

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from graft.objects.average_precision import Photos, Shape, best_overlaps, best_score, counts_at, match, scores
from graft.objects.coco import results
from graft.objects.instance import Instance, annotated
from graft.objects.run_length import encode

SIDE, CLASSES = 40, 3


def disc(draws: np.random.Generator, near: Instance | None = None) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    if near is None:
        centre, radius = draws.uniform(6, SIDE - 6, 2), draws.uniform(3, 9)
    else:
        left, top, width, height = near.box
        radius = max(1.5, (width + height) / 4 + draws.normal(0, 0.6))
        centre = np.array([top + height / 2, left + width / 2]) + draws.normal(0, 1.0, 2)
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def case(seed: int) -> tuple[list[list[Instance]], list[list[Instance]]]:
    """Photos with objects and answers that are near them, of another class, doubled or invented."""
    draws = np.random.default_rng(seed)
    truth: list[list[Instance]] = []
    answers: list[list[Instance]] = []
    for _ in range(int(draws.integers(2, 8))):
        own = [
            annotated(int(draws.integers(CLASSES)), encode(disc(draws)), crowd=bool(draws.random() < 0.15))
            for _ in range(int(draws.integers(0, 7)))
        ]
        got = []
        for _ in range(int(draws.integers(0, 12))):
            near = own[int(draws.integers(len(own)))] if own and draws.random() < 0.8 else None
            label = near.label if near and draws.random() < 0.9 else int(draws.integers(CLASSES))
            code = encode(disc(draws, near))
            left, top, width, height = code.box
            box = (left + draws.normal(0, 0.5), float(top), width + 0.3, float(height))
            got.append(Instance(label, code, box, score=float(draws.choice([draws.random(), 0.5]))))
        truth.append(own)
        answers.append(got)
    return truth, answers


def expected(truth: Photos, answers: Photos, shape: Shape) -> dict[str, float]:
    annotations = [
        {
            "id": 0,
            "image_id": image,
            "category_id": one.label,
            "iscrowd": int(one.crowd),
            "area": one.code.area,
            "bbox": list(one.box),
            "segmentation": one.code.as_coco(),
        }
        for image, photo in enumerate(truth)
        for one in photo
    ]
    for number, one in enumerate(annotations, 1):
        one["id"] = number
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = {
            "info": {},
            "images": [{"id": image, "height": SIDE, "width": SIDE} for image in range(len(truth))],
            "categories": [{"id": label} for label in range(CLASSES)],
            "annotations": annotations,
        }
        known.createIndex()
        found = results(answers, range(len(answers)), {label: label for label in range(CLASSES)})
        for one, own in zip(found, [each for photo in answers for each in photo], strict=True):
            one |= {"score": own.score, "bbox": list(own.box)}  # not rounded
        if not found:
            other = COCO()
            other.dataset = {**known.dataset, "annotations": []}
            other.createIndex()
        else:
            other = known.loadRes(found)
        evaluation = COCOeval(known, other, "segm" if shape == "mask" else "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(evaluation.stats[at]) for name, at in (("ap", 0), ("ap50", 1), ("ap75", 2), ("ar", 8))}


@pytest.mark.parametrize("shape", ["mask", "box"])
@pytest.mark.parametrize("seed", range(20))
def test_scores_are_those_of_pycocotools(seed: int, shape: Shape) -> None:
    truth, answers = case(seed)
    found = scores(match(truth, answers, CLASSES, shape))
    wanted = expected(truth, answers, shape)
    for name, value in wanted.items():
        assert (value == -1 and np.isnan(found[name])) or found[name] == pytest.approx(value, abs=1e-9), name


def test_photos_drawn_twice_count_twice() -> None:
    truth, answers = case(3)
    answers = [[replace(one, score=one.score + 1e-3 * at) for at, one in enumerate(photo)] for photo in answers]
    answers = [[replace(one, score=one.score + 1e-5 * at) for one in photo] for at, photo in enumerate(answers)]
    doubled = match([*truth, truth[0]], [*answers, answers[0]], CLASSES)
    weighted = scores(match(truth, answers, CLASSES), np.array([2.0] + [1.0] * (len(truth) - 1)))
    assert weighted == pytest.approx(scores(doubled), abs=1e-9)


def test_no_answers_find_nothing_and_no_objects_have_no_score() -> None:
    truth, _ = case(4)
    empty: list[list[Instance]] = [[] for _ in truth]
    assert set(scores(match(truth, empty, CLASSES)).values()) == {0.0}
    assert all(np.isnan(value) for value in scores(match(empty, empty, CLASSES)).values())
    assert expected(truth, empty, "mask")["ap"] == 0.0


def test_objects_are_counted_at_a_score() -> None:
    square = np.zeros((SIDE, SIDE), bool)
    square[5:15, 5:15] = True
    other = np.roll(square, 20, axis=1)
    truth = [[annotated(0, encode(square)), annotated(0, encode(other))], []]
    sure, unsure = (Instance(0, encode(square), (5, 5, 10, 10), score) for score in (0.9, 0.4))
    invented = Instance(0, encode(np.roll(square, 20, axis=0)), (5, 25, 10, 10), 0.6)
    matches = match(truth, [[sure, unsure], [invented]], 1)
    for score, wanted in ((0.3, (1, 1, 2)), (0.5, (1, 1, 1)), (0.7, (1, 1, 0))):
        counted = counts_at(matches, score)
        assert tuple(part.sum() for part in counted) == wanted
    assert best_score(matches) == 0.9
    assert counts_at(matches, 0.7).f1.tolist() == pytest.approx([2 / 3, 1.0])


def test_an_object_overlaps_most_with_an_answer_of_its_own_kind() -> None:
    square = np.zeros((SIDE, SIDE), bool)
    square[5:15, 5:15] = True
    half, whole = (Instance(0, encode(np.roll(square, by, axis=0)), (5, 5 + by, 10, 10)) for by in (5, 0))
    truth = [annotated(0, encode(square)), annotated(1, encode(square))]
    assert best_overlaps(truth, [half]).tolist() == pytest.approx([1 / 3, 0.0])
    assert best_overlaps(truth, [half, whole]).tolist() == [1.0, 0.0]
    assert best_overlaps(truth, []).tolist() == [0.0, 0.0]
    assert best_overlaps([], [half]).tolist() == []
