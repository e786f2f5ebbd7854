"""Out-of-fold probabilities are found by the images' ids, and only for the same images and classes."""

import hashlib
import stat
from pathlib import Path

import numpy as np
import pytest

from graft.core.errors import ModelError
from graft.heads.out_of_fold import OUT_OF_FOLD_FILE, read_out_of_fold, write_out_of_fold
from tests.support.growth import growth

CLASSES = ("ant", "bee", "wasp")


def ids_of(n: int) -> list[str]:
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(n)]


def made(n: int, classes: int = len(CLASSES)) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.ones(classes), n)


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    write_out_of_fold(tmp_path, ids_of(50), CLASSES, made(50))
    found = read_out_of_fold(tmp_path, ids_of(50), CLASSES)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, made(50))
    assert [file.name for file in tmp_path.iterdir()] == [OUT_OF_FOLD_FILE]
    # Steps may run as different users.
    assert (tmp_path / OUT_OF_FOLD_FILE).stat().st_mode & stat.S_IRGRP


def test_rows_are_matched_by_id_whatever_their_order(tmp_path: Path) -> None:
    ids, order = ids_of(50), np.random.default_rng(1).permutation(50)
    write_out_of_fold(tmp_path, ids, CLASSES, made(50))
    found = read_out_of_fold(tmp_path, [ids[row] for row in order], CLASSES)
    np.testing.assert_array_equal(found, made(50)[order])


def test_copies_of_one_file_are_distinguished_by_their_order(tmp_path: Path) -> None:
    first, second, third = ids_of(3)
    write_out_of_fold(tmp_path, [first, second, first, third, first], CLASSES, made(5))
    found = read_out_of_fold(tmp_path, [third, first, first, second, first], CLASSES)
    np.testing.assert_array_equal(found, made(5)[[3, 0, 2, 1, 4]])


def test_those_of_other_images_or_classes_are_refused(tmp_path: Path) -> None:
    ids = ids_of(4)
    write_out_of_fold(tmp_path, ids, CLASSES, made(4))
    for asked, classes in (
        (ids[:3], CLASSES),
        ([*ids, "f" * 64], CLASSES),
        ([*ids[:3], "f" * 64], CLASSES),
        ([*ids[:3], ids[0]], CLASSES),
        (ids, ("ant", "bee", "cat")),
        (ids, ("bee", "ant", "wasp")),
    ):
        with pytest.raises(ModelError, match=r"out_of_fold\.safetensors: not of the training images of this dataset"):
            read_out_of_fold(tmp_path, asked, classes)


def test_missing_and_broken_files_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no out-of-fold probabilities \(out_of_fold\.safetensors is missing\)"):
        read_out_of_fold(tmp_path, ids_of(2), CLASSES)
    (tmp_path / OUT_OF_FOLD_FILE).write_bytes(b"cut short")
    with pytest.raises(ModelError, match=r"out_of_fold\.safetensors: not readable \(.*\); train the head again"):
        read_out_of_fold(tmp_path, ids_of(2), CLASSES)


def test_an_image_takes_its_id_and_its_probabilities(tmp_path: Path) -> None:
    for n in (100, 300):
        write_out_of_fold(tmp_path, ids_of(n), CLASSES, made(n))
        size = (tmp_path / OUT_OF_FOLD_FILE).stat().st_size
        assert size - n * (64 + 8 * len(CLASSES)) < 400

    def work(n: int):  # type: ignore[no-untyped-def]
        ids, probabilities = ids_of(n), made(n)

        def both() -> None:
            write_out_of_fold(tmp_path, ids, CLASSES, probabilities)
            read_out_of_fold(tmp_path, ids, CLASSES)

        return both

    assert growth(work, 1000, 5000) < 4 * (64 + 8 * len(CLASSES))
