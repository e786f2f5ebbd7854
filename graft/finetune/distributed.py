"""What the processes of one training say to each other: gradients, sums, rows, and why one of them fails.

The one place that talks to torch.distributed: gloo on CPUs, NCCL on GPUs. Outside of `joined` there is one process, and
everything here returns what it was given.
"""

import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from graft.core.errors import error_text
from graft.runs.processes import PeerFailedError, PeersLostError, Process

if TYPE_CHECKING:
    from graft.models.classifier import Classifier

T = TypeVar("T")
TIMEOUT = timedelta(hours=1)
"""How long a process waits for the others: one may have to compute what another found in its cache."""
_FAILURE = "graft-failure"

Forward = Callable[[torch.Tensor, str | None, Sequence[torch.Tensor]], torch.Tensor]
"""`Classifier.from_boundary` of a classifier in training."""


class Joined:
    """The other processes; see `processes.Peers`."""

    def __init__(self, world: Process, store: Store) -> None:
        self.world = world
        self._store = store

    def report_failure(self, error: Exception) -> Exception:
        """Tell the others why this process fails; return what it should raise: where another failed first, why."""
        if isinstance(error, PeerFailedError):
            return error
        # torchrun tells the others to stop as soon as one is gone: what is left to do takes longer than that.
        _on_stop(signal.SIG_IGN)
        error = _lost(error)
        line = error_text(error)
        with suppress(RuntimeError):  # the store may be gone, and with it whoever could be told
            first_failure = self._store.compare_set(_FAILURE, "", f"{self.world.rank}\n{line}").decode()
            rank, _, first = first_failure.partition("\n")
            if int(rank) != self.world.rank and not (first == line and self.world.is_first):
                return PeerFailedError(f"{Process(int(rank), self.world.size).name}: {first}")
        return error


@contextmanager
def joined(world: Process) -> Iterator[Joined]:
    """Meet the other processes of `world`, which torchrun has started, and leave them at the end."""
    device = training_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    # DDP tells of gradients in another layout than the weights', as those of 1 x 1 convolutions are; they are copied.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    before = signal.getsignal(signal.SIGTERM)
    _on_stop(_raise)
    store, rank, size = next(rendezvous("env://", world.rank, world.size, timeout=TIMEOUT))
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    yield Joined(world, PrefixStore("graft", store))
    # Not after a failure: what is left to say then must not be cut off, nor wait for the others.
    dist.destroy_process_group()
    _on_stop(before)


def this_process() -> Process:
    """Return which of the processes that train together this is; alone, the first of one."""
    if dist.is_available() and dist.is_initialized():
        return Process(dist.get_rank(), dist.get_world_size())
    return Process()


def training_device() -> torch.device:
    """Return where this process trains: a GPU of its own where there are any."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def from_first(make: Callable[[], T]) -> T:
    """Return what the first process makes; the others make nothing."""
    world = this_process()
    if world.size == 1:
        return make()
    found = [make() if world.is_first else None]
    dist.broadcast_object_list(found, src=0)
    return found[0]  # type: ignore[return-value]


def summed(value: float) -> float:
    """Return the sum over the processes."""
    if this_process().size == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(total)
    return total.item()


def gathered(rows: npt.NDArray[np.float32] | None) -> npt.NDArray[np.float32]:
    """Return the rows of all processes, in the order of their ranks; None: this one has none."""
    world = this_process()
    parts: list[Any] = [rows]
    if world.size > 1:
        parts = [None] * world.size
        dist.all_gather_object(parts, rows)
    return np.concatenate([part for part in parts if part is not None])


def replicated(classifier: "Classifier") -> Forward:
    """Return the forward pass of a classifier whose gradients are averaged over the processes in the backward pass.

    All processes get the first one's weights. Buffers are not shared in training: those of frozen BatchNorm do not
    move, and `sync_batchnorm` moves the others alike.
    """
    if this_process().size == 1:
        return classifier.from_boundary
    return nn.parallel.DistributedDataParallel(_FromBoundary(classifier), forward_sync_buffers=False)


class _FromBoundary(nn.Module):
    """A module whose forward pass is the one that is trained, as DDP wants it."""

    def __init__(self, classifier: "Classifier") -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, activation: torch.Tensor, after: str | None, below: Sequence[torch.Tensor]) -> torch.Tensor:
        return self.classifier.from_boundary(activation, after, below)


def _lost(error: Exception) -> Exception:
    """Return an error that says so where the connection to another process broke."""
    if isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error)):
        lines = str(error).partition("] ")[2].partition(". ")[0].splitlines() or [type(error).__name__]
        return PeersLostError(f"another process was killed, ran out of memory or does not answer ({lines[0][:200]})")
    return error


def _on_stop(do: Any) -> None:
    """Set what SIGTERM does, where Python lets us: in the main thread."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, do)


def _raise(number: int, frame: FrameType | None) -> None:
    raise PeersLostError("told to stop (SIGTERM); if nobody did, another process was killed or ran out of memory")
