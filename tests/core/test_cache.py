"""The cache: keyed by content, safe under concurrent writers, and its failures never stop a run."""

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from graft.core.cache import VectorCache, cache_key, cache_root, lock_entry, mark_used_and_evict


def _ids(*numbers: int) -> list[str]:
    return [f"{number:064x}" for number in numbers]


def test_finds_what_was_added(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "vectors")
    assert cache.find(_ids(1)) == {}
    cache.add(_ids(1, 2), np.array([[1.0, 10.0], [2.0, 20.0]], np.float32))
    cache.add(_ids(3), np.array([[3.0, 30.0]], np.float32))
    found = cache.find(_ids(3, 2, 9))
    assert found.keys() == set(_ids(2, 3))
    for number in (2, 3):
        segment, row = found[_ids(number)[0]]
        assert cache.read(segment)[row].tolist() == [number, 10 * number]


def test_one_process_computes_an_entry_while_the_others_wait(tmp_path: Path) -> None:
    entry, made = tmp_path / "kind" / "entry", []

    def make(number: int) -> None:
        with lock_entry(entry):
            if not entry.exists():
                made.append(number)
                time.sleep(0.05)
                entry.mkdir()

    threads = [threading.Thread(target=make, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_without_locks_every_process_computes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr("graft.core.cache.fcntl.flock", refused)
    with lock_entry(tmp_path / "entry"):
        (tmp_path / "entry").mkdir()
    assert (tmp_path / "entry").is_dir()


def test_many_writers_at_once(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "vectors")
    threads = [
        threading.Thread(target=lambda n=n: cache.add(_ids(n, 1000), np.full((2, 3), n, np.float32))) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = cache.find(_ids(*range(8)))
    assert len(found) == 8
    assert all(cache.read(segment)[row][0] == int(name, 16) for name, (segment, row) in found.items())


def test_a_damaged_segment_counts_as_missing(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "vectors")
    cache.add(_ids(1), np.zeros((1, 2), np.float32))
    (next((tmp_path / "vectors").iterdir()) / "ids.npy").write_bytes(b"broken")
    with pytest.warns(UserWarning, match="thrown away and made again"):
        assert cache.find(_ids(1)) == {}
    assert list((tmp_path / "vectors").iterdir()) == []


def test_a_cache_that_cannot_be_written_only_warns(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="not kept for another run"):
        VectorCache(tmp_path / "file" / "vectors").add(_ids(1), np.zeros((1, 2), np.float32))


def test_the_environment_sets_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "here"))
    assert cache_root() == tmp_path / "here"
    monkeypatch.setenv("GRAFT_CACHE", "off")
    assert cache_root() is None
    monkeypatch.delenv("GRAFT_CACHE")
    monkeypatch.chdir(tmp_path)
    assert cache_root() == tmp_path / ".graft-cache"


def test_key_depends_on_values_and_not_on_order() -> None:
    assert cache_key({"a": 1, "b": 2}) == cache_key({"b": 2, "a": 1}) != cache_key({"a": 1, "b": 3})


def test_the_least_recently_used_entries_are_evicted(tmp_path: Path) -> None:
    for age, name in enumerate(("newest", "older", "oldest")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "values").write_bytes(b"x" * 1000)
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    (tmp_path / ".half-written.tmp").mkdir()
    mark_used_and_evict(tmp_path / "oldest", 2500)  # it is used now, so it is the newest
    assert {entry.name for entry in tmp_path.iterdir()} == {"newest", "oldest", ".half-written.tmp"}
    mark_used_and_evict(tmp_path / "oldest", 0)
    assert {entry.name for entry in tmp_path.iterdir()} == {"oldest", ".half-written.tmp"}
    mark_used_and_evict(tmp_path / "none" / "yet")
