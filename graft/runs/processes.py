"""The processes that run one step together, as torchrun starts them: each has a rank, and only rank 0 logs and writes.

Nothing here needs torch; for the communication between them see `distributed`.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from graft.core.errors import GraftError


@dataclass(frozen=True)
class Process:
    """One of `size` processes."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that logs and writes."""
        return self.rank == 0

    @property
    def name(self) -> str:
        """Name of this process in messages."""
        return f"process {self.rank + 1} of {self.size}"

    def part(self, n: int) -> slice:
        """Return this process's share of `n` items: a contiguous slice, in the order of the ranks."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)


class Peers(Protocol):
    """The other processes of the step, once they have joined."""

    def report_failure(self, error: Exception) -> Exception:
        """Tell the others why this process failed; return what to raise: the first failure of all."""


class NoPeers:
    """The peers of a single process."""

    def report_failure(self, error: Exception) -> Exception:
        """Return the error itself."""
        return error


Join = Callable[[Process], AbstractContextManager[Peers]]
"""Connects to the other processes, and disconnects at the end."""


class PeerFailedError(GraftError):
    """Another process of the step failed and reported it."""


class PeersLostError(GraftError):
    """This process ends because others ended without reporting why."""


@contextmanager
def raise_first_failure(peers: Peers) -> Iterator[None]:
    """If the body fails, raise the failure that came first among all processes."""
    try:
        yield
    except Exception as error:
        cause = peers.report_failure(error)
        if cause is error:
            raise
        raise cause from error


def current_process() -> Process:
    """Return which of torchrun's processes this is; the only one, if torchrun or the like did not start it.

    Raises:
        GraftError: if RANK and WORLD_SIZE are not valid.
    """
    rank, size = (os.environ.get(name) for name in ("RANK", "WORLD_SIZE"))
    if rank is None or size is None:
        return Process()
    if not (rank.isdecimal() and size.isdecimal() and int(rank) < int(size)):
        raise GraftError(
            f"RANK={rank}, WORLD_SIZE={size}: expected a rank from 0 to below WORLD_SIZE, as torchrun sets"
        )
    return Process(int(rank), int(size))
