"""Locks on a server without locks: one process at a time, however the requests are delayed."""

import random
import threading
import time

import pytest

from graft.core.errors import RegistryError
from graft.serving import server_lock
from graft.serving.server_lock import exclusive


class Variable:
    """A shared variable whose requests take up to so many seconds."""

    def __init__(self, slowest: float = 0.0) -> None:
        self.value: str | None = None
        self.slowest = slowest

    def read(self) -> str | None:
        self._travel()
        found = self.value
        self._travel()
        return found

    def write(self, value: str) -> None:
        self._travel()
        self.value = value
        self._travel()

    def clear(self) -> None:
        self.value = None

    def _travel(self) -> None:
        time.sleep(random.random() * self.slowest / 4)


def test_eight_at_once_take_turns() -> None:
    shared, inside, most, turns = Variable(0.02), 0, 0, 0
    guard = threading.Lock()

    def take() -> None:
        nonlocal inside, most, turns
        with exclusive(shared, settle=0.04, lease=5.0) as still_mine:
            with guard:
                inside += 1
                most, turns = max(most, inside), turns + 1
            assert still_mine()
            with guard:
                inside -= 1

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, turns) == (1, 8)
    assert shared.read() is None


def test_the_lock_of_a_process_that_died_expires() -> None:
    shared = Variable()
    shared.write("died long ago")
    with exclusive(shared, settle=0.01, lease=0.05) as still_mine:
        assert still_mine()


def test_a_late_writer_waits_until_the_holder_is_done() -> None:
    shared, order = Variable(), list[str]()
    found_free, may_write = threading.Event(), threading.Event()

    class Late(Variable):
        def read(self) -> str | None:
            return shared.value

        def write(self, value: str) -> None:
            found_free.set()
            may_write.wait()
            shared.write(value)

        def clear(self) -> None:
            shared.clear()

    def late() -> None:
        with exclusive(Late(), settle=0.02, lease=0.3):
            order.append("late")

    thread = threading.Thread(target=late)
    thread.start()
    found_free.wait()
    with exclusive(shared, settle=0.02, lease=0.3) as still_mine:
        may_write.set()
        time.sleep(0.1)
        assert not still_mine(), "the holder can tell that it was overwritten"
        order.append("holder")
    thread.join()
    assert order == ["holder", "late"]


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_lock, "PATIENCE_SECONDS", 0.05)
    shared = Variable()
    monkeypatch.setattr(shared, "write", lambda value: setattr(shared, "value", "another"))
    with pytest.raises(RegistryError, match="keep changing the champion"), exclusive(shared, settle=0.01, lease=0.02):
        pass
