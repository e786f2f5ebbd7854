"""Training that was cut off goes on where it was, bit by bit as if it had not been.

Of several processes the first alone keeps checkpoints, and gives them to the others: all of them call the same here.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from graft.core.atomic import remove, replacing
from graft.core.cache import cache_key, cache_root, mark_used_and_evict
from graft.finetune.distributed import from_first, this_process

SHARE = 0.1
"""Most of the time that writing may take; a checkpoint that comes too soon after the last is left out."""


class Checkpoint:
    """The latest state of one training, in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._next = 0.0

    def read(self) -> dict[str, torch.Tensor] | None:
        """Return the state; None if there is none, or none that is whole."""
        content = from_first(self._content)
        try:
            return safetensors.torch.load(content) if content else None
        except safetensors.SafetensorError:
            return None

    def write(self, state: Callable[[], Mapping[str, torch.Tensor]], *, due: bool = False) -> None:
        """Keep a state, unless the last one was kept a moment ago and this one is not `due` in any case."""
        started = time.monotonic()
        if not this_process().is_first or (not due and started < self._next):
            return
        with replacing(self.file) as temporary:
            temporary.write_bytes(safetensors.torch.save({n: t.detach().contiguous() for n, t in state().items()}))
        ended = time.monotonic()
        self._next = ended + (ended - started) / SHARE

    def _content(self) -> bytes | None:
        return self.file.read_bytes() if self.file.is_file() else None


class Checkpoints:
    """The checkpoints of one fine-tuning, found again when the same one is started again."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> "Checkpoints":
        """Return those of the fine-tuning that these plain values determine; nothing is kept if there is no cache."""
        root = from_first(cache_root)
        if root is None:
            return cls(None)
        folder = root / "training" / cache_key(description)
        if this_process().is_first:
            mark_used_and_evict(folder)
        return cls(folder)

    def one(self, name: str) -> Checkpoint | None:
        """Return the checkpoint of one of its trainings; None if nothing is kept."""
        return Checkpoint(self.folder / f"{name}.safetensors") if self.folder else None

    def clear(self) -> None:
        """Delete them: fine-tuning is done."""
        if self.folder and this_process().is_first:
            remove(self.folder)
