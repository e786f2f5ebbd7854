from pathlib import Path

import numpy as np

from graft.continual.exam import MOST_IMAGES, UNASKED, Exam


def exam(names: str, start: int = 0) -> Exam:
    ids = [f"{start + number:064x}" for number in range(len(names))]
    features = np.arange(2 * len(names), dtype=np.float32).reshape(-1, 2)
    return Exam.of(features, list(names), ids, ids, np.arange(len(names)) % 2 == 1)


def test_each_experience_adds_images_and_a_row_of_answers(tmp_path: Path) -> None:
    first = exam("abab").examined(np.array([True, False, True, True]))
    both = first.extended(exam("cc", start=9)).asked_before(np.zeros(6, np.bool_))
    both = both.examined(np.ones(6, np.bool_))
    both.save(tmp_path)
    read = Exam.load(tmp_path)
    assert read is not None
    assert read.answers.tolist() == [
        [UNASKED, 0, UNASKED, 1, UNASKED, 0],
        [UNASKED, 1, UNASKED, 1, UNASKED, 1],
    ]
    assert read.experience.tolist() == [0, 0, 0, 0, 1, 1]
    assert read.names.tolist() == list("ababcc")
    assert read.tests.names.tolist() == list("bbc")
    assert len(read.validation) == 3
    np.testing.assert_array_equal(read.features, both.features)


def test_forgotten_images_leave_with_their_answers() -> None:
    left = exam("abab").examined(np.ones(4, np.bool_)).without([f"{1:064x}"])
    assert left.names.tolist() == list("aab")
    assert left.answers.shape == (1, 3)


def test_of_many_images_whole_groups_are_kept() -> None:
    many = 2 * MOST_IMAGES + 4
    ids, groups = [f"{n:064x}" for n in range(many)], [f"g{n // 4}" for n in range(many)]
    kept = Exam.of(np.zeros((many, 1), np.float32), ["a"] * many, ids, groups, np.ones(many, np.bool_))
    assert MOST_IMAGES <= len(kept) < MOST_IMAGES + 8
    _, counts = np.unique(kept.groups, return_counts=True)
    assert (counts == 4).all()


def test_a_bundle_may_have_none(tmp_path: Path) -> None:
    assert Exam.load(tmp_path) is None
    Exam.empty(3).save(tmp_path)
    read = Exam.load(tmp_path)
    assert read is not None
    assert len(read) == 0
