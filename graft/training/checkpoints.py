"""Checkpoints: interrupted training resumes where it stopped, with bit-identical results.

If several processes train together, all make the same calls; only the first one writes checkpoints, and it sends what
it reads to the others.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch

from graft.core.atomic import read_json, remove, replacing, write_json
from graft.core.cache import cache_key, cache_root, kept_if_possible, mark_used_and_evict
from graft.core.errors import GraftError
from graft.training.distributed import from_first, this_process

T = TypeVar("T")
SHARE = 0.1
"""Largest share of the time that writing may take; a checkpoint that comes too soon after the last is skipped."""


class Checkpoint:
    """The latest state of one training, in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._next = 0.0

    def read(self) -> dict[str, torch.Tensor] | None:
        """Return the state; None if there is none, or it is incomplete or damaged."""
        content = from_first(self._content)
        digest, _, tensors = (content or b"").partition(b"\n")
        return safetensors.torch.load(tensors) if digest and digest == _digest(tensors) else None

    def write(self, state: Callable[[], Mapping[str, torch.Tensor]], *, due: bool = False) -> None:
        """Write a state, unless the last one was written a moment ago; with `due`, write it in any case."""
        started = time.monotonic()
        if not this_process().is_first or (not due and started < self._next):
            return
        tensors = safetensors.torch.save({n: t.detach().contiguous() for n, t in state().items()})
        with kept_if_possible(self.file), replacing(self.file) as temporary:
            temporary.write_bytes(_digest(tensors) + b"\n" + tensors)
        ended = time.monotonic()
        self._next = ended + (ended - started) / SHARE

    def _content(self) -> bytes | None:
        return self.file.read_bytes() if self.file.is_file() else None


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


class Checkpoints:
    """The checkpoints of one fine-tuning run; the same run finds them when it is started again."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> "Checkpoints":
        """Return the checkpoints of the run that these plain values determine; without a cache nothing is written."""
        root = from_first(cache_root)
        if root is None:
            return cls(None)
        folder = root / "training" / cache_key(description)
        if this_process().is_first:
            mark_used_and_evict(folder)
        return cls(folder)

    def one(self, name: str) -> Checkpoint | None:
        """Return the checkpoint of one training of this run; None if there is no cache."""
        return Checkpoint(self.folder / f"{name}.safetensors") if self.folder else None

    def decision(self, name: str, decide: Callable[[], T]) -> T:
        """Return what `decide` returns; a run that was started again returns what it had decided before.

        Args:
            name: of the decision.
            decide: called in the first process only; it may depend on the clock. Its result is plain JSON.
        """

        def decided() -> T:
            if self.folder is None:
                return decide()
            file = self.folder / f"{name}.json"
            with suppress(GraftError):  # missing or damaged
                found: T = read_json(file)
                return found
            found = decide()
            with kept_if_possible(file):
                write_json(file, found)
            return found

        return from_first(decided)

    def clear(self) -> None:
        """Delete the checkpoints, once fine-tuning is done."""
        if self.folder and this_process().is_first:
            remove(self.folder)
