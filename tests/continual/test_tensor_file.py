from pathlib import Path

import numpy as np
import pytest

from graft.continual.tensor_file import read_tensors, write_tensors
from graft.core.errors import ModelError

ARRAYS = {"mean": np.arange(6.0).reshape(2, 3), "count": np.array([4, 5], dtype=np.int64)}
FACTS = {"groups": ["blocks.5"], "names": ["é", "b"]}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a.safetensors", ARRAYS, FACTS)
    arrays, facts = read_tensors(tmp_path / "a.safetensors")
    assert facts == FACTS
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)


def test_equal_content_is_equal_bytes(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.safetensors" for number in range(8)]
    for file in files:
        write_tensors(file, ARRAYS, FACTS)
    assert len({file.read_bytes() for file in files}) == 1


@pytest.mark.parametrize("damage", ["a value", "cut", "no record", "text"])
def test_a_damaged_file_is_one_line(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "a.safetensors"
    write_tensors(file, ARRAYS, FACTS)
    content = bytearray(file.read_bytes())
    if damage == "a value":
        content[-3] ^= 1
    elif damage == "cut":
        content = content[:-5]
    elif damage == "no record":
        content = content.replace(b'"graft"', b'"other"')
    else:
        content = bytearray(b"no tensors")
    file.write_bytes(content)
    with pytest.raises(ModelError) as error:
        read_tensors(file)
    assert str(error.value).startswith(f"{file}: ")
    assert "\n" not in str(error.value)
