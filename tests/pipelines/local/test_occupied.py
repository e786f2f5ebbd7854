import multiprocessing
import os
from pathlib import Path

import pytest

from graft.core.errors import GraftError
from pipelines.local.occupied import occupied


def hold(folder: Path, holding: "multiprocessing.synchronize.Event", die: bool) -> None:
    with occupied(folder, folder):
        holding.set()
        if die:
            os._exit(9)
        signal_never = multiprocessing.Event()
        signal_never.wait(60)


def test_a_second_run_in_one_folder_is_refused_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    holding = context.Event()
    other = context.Process(target=hold, args=(tmp_path, holding, False))
    other.start()
    assert holding.wait(30)
    try:
        owner = rf"a run \(process {other.pid}, since .*\) writes .*; wait for it, or"
        with pytest.raises(GraftError, match=owner), occupied(tmp_path, tmp_path):
            pass
    finally:
        other.kill()
        other.join()
    with occupied(tmp_path, tmp_path):  # its owner is dead
        pass


def test_other_folders_are_independent_and_a_folder_is_free_afterwards(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for _ in range(2):
        with occupied(tmp_path / "a", tmp_path / "a"), occupied(tmp_path / "b", tmp_path / "b"):
            pass
