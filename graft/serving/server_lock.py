"""Mutual exclusion between machines that share a tracking server, which offers neither locks nor compare-and-set.

Fischer's algorithm (Lamport, A Fast Mutual Exclusion Algorithm, ACM TOCS 1987) needs one shared variable and a bound on
the time of a write: whoever finds the variable free writes its name, waits until all others who found it free have
written theirs, and has the lock if the last name is its own. Everyone computes the same winner.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from graft.core.errors import RegistryError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

SETTLE_SECONDS = 1.0
"""Longest time from reading a free variable to having written one's name."""
LEASE_SECONDS = 20.0
"""A name that stands for longer belongs to a process that died; a process that wrote too late waits as long."""
PATIENCE_SECONDS = 300.0
LOCK_TAG = "graft.promoting"
"""On the registered model: the process that is moving the champion."""


class Shared(Protocol):
    """A variable on the server."""

    def read(self) -> str | None:
        """Return its value; None: it is free."""

    def write(self, value: str) -> None:
        """Set it."""

    def clear(self) -> None:
        """Set it free."""


@dataclass(frozen=True)
class LockTag:
    """The variable as a tag of a registered model."""

    client: "MlflowClient"
    name: str

    def read(self) -> str | None:
        """Return its value; None: it is free."""
        return self.client.get_registered_model(self.name).tags.get(LOCK_TAG) or None

    def write(self, value: str) -> None:
        """Set it."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.set_registered_model_tag(self.name, LOCK_TAG, value)
        except MlflowException:
            # MLflow looks for the tag's row and inserts it if there is none: of two who write the very first name at
            # once, one fails. The row is there now, so that the second try changes it.
            self.client.set_registered_model_tag(self.name, LOCK_TAG, value)

    def clear(self) -> None:
        """Set it free."""
        # Empty, not deleted: to delete a tag that another process has just deleted is an error.
        self.write("")


@contextmanager
def exclusive(
    shared: Shared, settle: float = SETTLE_SECONDS, lease: float = LEASE_SECONDS
) -> Iterator[Callable[[], bool]]:
    """Let one process at a time run the body; yields a function that says whether the lock is still held.

    Args:
        shared: the variable that all processes use.
        settle: see `SETTLE_SECONDS`.
        lease: see `LEASE_SECONDS`; the body must take less.

    Raises:
        RegistryError: if others hold the lock for minutes.
    """
    name, began = uuid.uuid4().hex, time.monotonic()
    while not _acquired(shared, name, settle, lease):
        if time.monotonic() - began > PATIENCE_SECONDS:
            raise RegistryError("other processes keep changing the champion: try again later")
    try:
        yield lambda: shared.read() == name
    finally:
        if shared.read() == name:
            shared.clear()


def _acquired(shared: Shared, name: str, settle: float, lease: float) -> bool:
    _wait_until_free(shared, settle, lease)
    asked = time.monotonic()
    if shared.read() is not None:
        return False
    shared.write(name)
    late = time.monotonic() - asked > settle
    time.sleep(lease if late else settle)
    return shared.read() == name


def _wait_until_free(shared: Shared, settle: float, lease: float) -> None:
    seen, since = shared.read(), time.monotonic()
    while seen is not None:
        time.sleep(settle / 2)
        now = shared.read()
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > lease:
            shared.clear()
            return
