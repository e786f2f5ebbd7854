"""Arrays in files that are mapped into memory."""

from pathlib import Path

import numpy as np
import pytest

from graft.core.mapped_arrays import temporary_array


def test_it_keeps_what_is_written_and_leaves_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with temporary_array((1000, 32, 32)) as array:
        assert not array.any()
        array[7] = 3
        assert np.asarray(array[5:9]).sum() == 3 * 32 * 32
    assert list(tmp_path.iterdir()) == []


def test_it_may_be_empty() -> None:
    with temporary_array((0, 32, 32)) as array:
        assert array.shape == (0, 32, 32)
