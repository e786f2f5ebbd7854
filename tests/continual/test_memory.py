from pathlib import Path

import numpy as np
import pytest

from graft.continual.memory import MEMORY_FILE, Memory
from graft.core.errors import ModelError
from tests.support.features import blobs

FEATURES, TARGETS = blobs(60, 6, 3)
IDS = [f"{number:064x}" for number in range(60)]
NAMES = [f"c{target}" for target in TARGETS]


def memory(rows: np.ndarray, fingerprint: str = "f") -> Memory:
    named, ids = [NAMES[row] for row in rows], [IDS[row] for row in rows]
    return Memory.of(FEATURES[rows], named, ids, fingerprint, ("last",))


def test_it_survives_a_file_and_takes_one_triangle(tmp_path: Path) -> None:
    known = memory(np.arange(60))
    known.save(tmp_path)
    read = Memory.load(tmp_path)
    np.testing.assert_array_equal(read.statistics.scatter, known.statistics.scatter)
    np.testing.assert_array_equal(read.images, known.images)
    assert read.names_of(IDS) == NAMES
    assert read.knows([IDS[5], "f" * 64]).tolist() == [True, False]


def test_1280_features_take_less_than_8_mb(tmp_path: Path) -> None:
    wide = np.random.default_rng(0).normal(size=(20, 1280)).astype(np.float32)
    Memory.of(wide, [f"c{i % 10}" for i in range(20)], IDS[:20], "f", ("last",)).save(tmp_path)
    assert 6.5e6 < (tmp_path / MEMORY_FILE).stat().st_size < 6.8e6


def test_parts_merge_and_come_apart() -> None:
    whole = memory(np.arange(40)).merged(memory(np.arange(40, 60)))
    left = whole.without(memory(np.arange(0, 60, 7)))
    wanted = memory(np.setdiff1d(np.arange(60), np.arange(0, 60, 7)))
    assert left.images.tolist() == wanted.images.tolist()
    assert left.classes.tolist() == wanted.classes.tolist()
    np.testing.assert_allclose(left.statistics.scatter, wanted.statistics.scatter, atol=1e-6)


def test_an_image_leaves_under_the_class_it_was_learnt_as_and_only_once() -> None:
    known = memory(np.arange(60))
    with pytest.raises(ModelError, match="not in it"):
        known.without(Memory.of(FEATURES[:1], ["c2"], IDS[:1], "f", ("last",)))
    with pytest.raises(ModelError, match="not in it"):
        known.without(memory(np.array([4]))).without(memory(np.array([4])))


def test_other_features_are_refused() -> None:
    with pytest.raises(ModelError, match="another backbone needs a full training"):
        memory(np.arange(30)).merged(memory(np.arange(30, 60), fingerprint="g"))
    with pytest.raises(ModelError, match="features after last, not of first"):
        memory(np.arange(30)).check_features("f", ("first",))


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped", "foreign"])
def test_a_damaged_memory_is_one_line(tmp_path: Path, damage: str) -> None:
    memory(np.arange(60)).save(tmp_path)
    file = tmp_path / MEMORY_FILE
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(content[:-40])
    elif damage == "flipped":
        content[-9] ^= 1
        file.write_bytes(content)
    else:
        file.write_bytes(b"not a memory")
    said = {"missing": "train it again with train_head.memory", "flipped": "its checksum does not match"}
    with pytest.raises(ModelError) as error:
        Memory.load(tmp_path)
    assert said.get(damage, "not readable") in str(error.value)
    assert "\n" not in str(error.value)
