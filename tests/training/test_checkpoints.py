"""Checkpoints: complete or none, and written only so often that it costs little time."""

from pathlib import Path

import pytest
import torch

from graft.training.checkpoints import Checkpoint, Checkpoints


def test_an_incomplete_checkpoint_is_ignored(tmp_path: Path) -> None:
    file = tmp_path / "folds.safetensors"
    file.write_bytes(b"half a checkp")
    assert Checkpoint(file).read() is None


def test_checkpoints_are_rate_limited_unless_they_are_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 2.0, 5.0, 6.0, 7.0, 40.0, 41.0])  # the first takes 2 s: the next is written at 22 or later
    monkeypatch.setattr("graft.training.checkpoints.time.monotonic", lambda: next(now))
    checkpoint = Checkpoint(tmp_path / "one.safetensors")

    def kept(number: int, *, due: bool = False) -> int:
        checkpoint.write(lambda: {"number": torch.tensor(number)}, due=due)
        found = checkpoint.read()
        assert found
        return int(found["number"])

    assert kept(1) == 1
    assert kept(2) == 1
    assert kept(3, due=True) == 3
    assert kept(4) == 4


def test_the_same_fine_tuning_finds_its_checkpoints_until_it_is_done(tmp_path: Path) -> None:
    mine = Checkpoints.of({"model": "a", "code": "1"})
    first = mine.one("0-folds")
    assert first
    first.write(lambda: {"epoch": torch.tensor(3)})
    again = Checkpoints.of({"model": "a", "code": "1"}).one("0-folds")
    assert again
    found = again.read()
    assert found
    assert int(found["epoch"]) == 3
    other = Checkpoints.of({"model": "a", "code": "2"}).one("0-folds")
    assert other
    assert other.read() is None
    mine.clear()
    assert again.read() is None
    mine.clear()  # nothing left to delete


def test_without_a_cache_there_are_no_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graft.training.checkpoints.cache_root", lambda: None)
    none = Checkpoints.of({"model": "a"})
    assert none.one("0-folds") is None
    none.clear()


def test_a_checkpoint_of_which_a_bit_has_changed_is_ignored(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "one.safetensors")
    checkpoint.write(lambda: {"weights": torch.arange(8.0)}, due=True)
    assert checkpoint.read() is not None
    content = bytearray(checkpoint.file.read_bytes())
    content[-3] ^= 1
    checkpoint.file.write_bytes(bytes(content))
    assert checkpoint.read() is None
