import os
import signal
import time

import psutil
import pytest

from graft.core import owners
from graft.core.owners import is_abandoned, is_alive, owner_mark, process_seconds, this_process


def ended_child() -> str:
    """Return the mark of a process that has ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, owner_mark().encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as said:
        return said.read()


def test_this_process_is_alive_and_an_ended_one_is_not() -> None:
    assert not is_abandoned(owner_mark())
    assert is_alive(this_process())
    assert is_abandoned(ended_child())


def test_a_killed_process_that_nobody_has_waited_for_is_not_alive() -> None:
    """In a container whose first process does not wait for orphans, they stay as zombies."""
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    place = owner_mark().partition("-")[0]
    mark = f"{place}-{child}-{owners._start(child)}"
    assert not is_abandoned(mark)
    os.kill(child, signal.SIGKILL)
    while psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.001)
    assert is_abandoned(mark)
    os.waitpid(child, 0)


def test_setting_the_clock_changes_neither_the_owner_nor_the_age(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux reckons the times of processes from that of its start, which moves with the clock."""
    identity, mark, plain = this_process(), owner_mark(), time.time
    began = psutil.boot_time()
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: began - 3600)
    monkeypatch.setattr(time, "time", lambda: plain() - 3600)
    owners._mark_of.cache_clear()
    assert is_alive(identity)
    assert owner_mark() == mark
    assert 0 < process_seconds() < 3600


def test_a_number_that_was_given_again_is_another_process() -> None:
    place, number, started = owner_mark().split("-")
    assert is_abandoned(f"{place}-{number}-{int(started, 16) - 60:x}")


def test_nobody_can_tell_of_another_machine() -> None:
    assert not is_abandoned("00000000-999999999-1")
    assert not is_abandoned("no mark")


def test_a_forked_process_has_a_mark_of_its_own() -> None:
    owner_mark()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, owner_mark().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 100).decode().split("-")[1] == str(child)
    assert owners.owner_mark().split("-")[1] == str(os.getpid())
