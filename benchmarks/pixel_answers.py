"""What each candidate of `benchmarks.pixels` leaves behind: answers as files, and one line of JSON about their cost."""

import json
import resource
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graft.objects.instance import Instance
from graft.objects.run_length import RunLength


class Cost:
    """The CPU seconds since it was made, and the most memory that this process has had."""

    def __init__(self) -> None:
        self._start = time.process_time()

    def row(self, name: str, answers: Path, **more: Any) -> dict[str, Any]:
        """Return the description of one set of answers."""
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        seconds = time.process_time() - self._start
        return {"name": name, "seconds": seconds, "memory": memory, "answers": str(answers), **more}


def tell(rows: Sequence[dict[str, Any]]) -> None:
    """Print the descriptions as the last line, where the parent looks for them."""
    print(json.dumps(rows), flush=True)


def write_logits(file: Path, logits: Iterable[torch.Tensor]) -> Path:
    """Write the logits (k, h, w) of every photo's square at half precision."""
    np.save(file, np.stack([one.to(torch.float16).numpy() for one in logits]))
    return file


def read_logits(file: Path) -> torch.Tensor:
    """Return what `write_logits` wrote, float32 (n, k, h, w)."""
    return torch.from_numpy(np.load(file).astype(np.float32))


def write_objects(file: Path, answers: Iterable[Sequence[Instance]]) -> Path:
    """Write the objects of every photo."""
    found = [
        [(one.label, one.code.height, one.code.width, one.code.counts, one.box, one.score) for one in photo]
        for photo in answers
    ]
    file.write_text(json.dumps(found), encoding="utf-8")
    return file


def read_objects(file: Path) -> list[tuple[Instance, ...]]:
    """Return what `write_objects` wrote."""
    return [
        tuple(
            Instance(label, RunLength(height, width, counts), tuple(box), score)
            for label, height, width, counts, box, score in photo
        )
        for photo in json.loads(file.read_text(encoding="utf-8"))
    ]
