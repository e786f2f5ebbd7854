import os

import psutil

from graft.core import owners
from graft.core.owners import is_abandoned, is_alive, owner_mark, this_process


def test_this_process_is_alive_and_an_ended_one_is_not() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    started = psutil.Process(child).create_time()
    place = owner_mark().partition("-")[0]
    os.waitpid(child, 0)
    assert not is_abandoned(owner_mark())
    assert is_alive(this_process())
    assert is_abandoned(f"{place}-{child}-{started:.0f}")


def test_a_number_that_was_given_again_is_another_process() -> None:
    place, number, started = owner_mark().split("-")
    assert is_abandoned(f"{place}-{number}-{int(started) - 60}")


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
