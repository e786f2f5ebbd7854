"""Communication between the processes of one training: gradients, sums, rows, and the cause of a failure.

Only this module and `sync_batchnorm` use torch.distributed: gloo on CPUs, NCCL on GPUs. Outside of `joined` there is
one process, and the functions here return their input unchanged.
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
"""How long a process waits for the others; one may have to compute what another found in its cache."""
_FAILURE = "graft-failure"

Forward = Callable[[torch.Tensor, str | None, Sequence[torch.Tensor]], torch.Tensor]
"""The signature of `Classifier.from_boundary`, for a classifier in training."""


class Joined:
    """The other processes; implements `processes.Peers`."""

    def __init__(self, process: Process, store: Store) -> None:
        self.process = process
        self._store = store

    def report_failure(self, error: Exception) -> Exception:
        """Tell the others why this process fails; return the error to raise: if another failed first, that cause."""
        if isinstance(error, PeerFailedError):
            return error
        # torchrun stops the others as soon as one has ended; the rest of the error handling takes longer than that.
        _handle_sigterm(signal.SIG_IGN)
        error = _lost(error)
        line = error_text(error)
        with suppress(RuntimeError):  # the store may be gone, and the other processes with it
            first_failure = self._store.compare_set(_FAILURE, "", f"{self.process.rank}\n{line}").decode()
            rank, _, first = first_failure.partition("\n")
            if int(rank) != self.process.rank and not (first == line and self.process.is_first):
                return PeerFailedError(f"{Process(int(rank), self.process.size).name}: {first}")
        return error


@contextmanager
def joined(process: Process) -> Iterator[Joined]:
    """Join the other processes that torchrun has started, and leave them at the end."""
    device = training_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    # DDP warns if gradients have another layout than the weights, as for 1 x 1 convolutions; it copies them.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    before = signal.getsignal(signal.SIGTERM)
    _handle_sigterm(_raise)
    store, rank, size = next(rendezvous("env://", process.rank, process.size, timeout=TIMEOUT))
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    yield Joined(process, PrefixStore("graft", store))
    # Not after a failure: reporting it must neither be interrupted nor wait for the others.
    dist.destroy_process_group()
    _handle_sigterm(before)


def this_process() -> Process:
    """Return rank and number of the processes that train together; the first of one if there are no others."""
    if dist.is_available() and dist.is_initialized():
        return Process(dist.get_rank(), dist.get_world_size())
    return Process()


def training_device() -> torch.device:
    """Return the device on which this process trains: its own GPU, if there are GPUs."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def from_first(make: Callable[[], T]) -> T:
    """Return in all processes what `make` returns in the first; the others do not call it."""
    process = this_process()
    if process.size == 1:
        return make()
    found = [make() if process.is_first else None]
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
    """Return the rows of all processes, in order of rank; `rows` is None if this one has none."""
    process = this_process()
    parts: list[Any] = [rows]
    if process.size > 1:
        parts = [None] * process.size
        dist.all_gather_object(parts, rows)
    return np.concatenate([part for part in parts if part is not None])


def replicated(classifier: "Classifier") -> Forward:
    """Return the forward pass of a classifier whose gradients are averaged over the processes in the backward pass.

    All processes start with the weights of the first. Buffers are not synchronised in training: those of frozen
    BatchNorm do not change, and `sync_batchnorm` changes the others identically.
    """
    if this_process().size == 1:
        return classifier.from_boundary
    return nn.parallel.DistributedDataParallel(_FromBoundary(classifier), forward_sync_buffers=False)


class _FromBoundary(nn.Module):
    """A module whose forward pass is `from_boundary`, since DDP wraps only `forward`."""

    def __init__(self, classifier: "Classifier") -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, activation: torch.Tensor, after: str | None, below: Sequence[torch.Tensor]) -> torch.Tensor:
        return self.classifier.from_boundary(activation, after, below)


def _lost(error: Exception) -> Exception:
    """Return a clear error if the connection to another process broke, otherwise the error itself."""
    if isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error)):
        lines = str(error).partition("] ")[2].partition(". ")[0].splitlines() or [type(error).__name__]
        return PeersLostError(f"another process was killed, ran out of memory or does not answer ({lines[0][:200]})")
    return error


def _handle_sigterm(handler: Any) -> None:
    """Set the handler of SIGTERM; Python allows that only in the main thread."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _raise(number: int, frame: FrameType | None) -> None:
    raise PeersLostError("stopped by SIGTERM; if nobody sent it, another process was killed or ran out of memory")
