"""The processes that do one step together, as torchrun starts them: each has a rank, and rank 0 alone logs and writes.

Nothing here needs torch: see `distributed` for what they say to each other.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from graft.core.errors import GraftError


@dataclass(frozen=True)
class World:
    """One of `size` processes."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that logs and writes."""
        return self.rank == 0

    @property
    def name(self) -> str:
        """What a message calls this process."""
        return f"process {self.rank + 1} of {self.size}"

    def part(self, n: int) -> slice:
        """Return which of `n` things are this process's: a run of them, the processes' runs in order of their ranks."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)


class Company(Protocol):
    """The other processes, once they have joined."""

    def failed(self, error: Exception) -> Exception:
        """Tell the others why this process fails; return what it should raise: where another failed first, why."""


class Alone:
    """No company."""

    def failed(self, error: Exception) -> Exception:
        """Return the error itself."""
        return error


Join = Callable[[World], AbstractContextManager[Company]]
"""Meets the other processes, and leaves them at the end."""


class OtherFailedError(GraftError):
    """Another process of the step failed, and has said so."""


class AbandonedError(GraftError):
    """This process ends because of others that did not say why."""


@contextmanager
def blamed(company: Company) -> Iterator[None]:
    """For what fails here, raise what made the whole company fail."""
    try:
        yield
    except Exception as error:
        cause = company.failed(error)
        if cause is error:
            raise
        raise cause from error


def started() -> World:
    """Return which of torchrun's processes this is; the only one, if it was not started by torchrun or the like.

    Raises:
        GraftError: if the environment makes no sense.
    """
    rank, size = (os.environ.get(name) for name in ("RANK", "WORLD_SIZE"))
    if rank is None or size is None:
        return World()
    if not (rank.isdecimal() and size.isdecimal() and int(rank) < int(size)):
        raise GraftError(
            f"RANK={rank}, WORLD_SIZE={size}: expected a rank from 0 to below WORLD_SIZE, as torchrun sets"
        )
    return World(int(rank), int(size))
