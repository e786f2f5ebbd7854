"""Files of arrays with a checksum: one that was cut short, changed or mixed up is not learnt from."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import safe_open

from graft.core.atomic import replacing
from graft.core.boundary import readable
from graft.core.errors import ModelError

Arrays = Mapping[str, npt.NDArray[Any]]
FORMAT = 1
_RECORD = "graft"


def write_tensors(file: Path, arrays: Arrays, facts: Mapping[str, Any]) -> None:
    """Write arrays and plain facts about them atomically.

    Args:
        file: a safetensors file.
        arrays: by name.
        facts: plain JSON.
    """
    text = json.dumps(dict(facts), sort_keys=True)
    record = {"facts": text, "format": FORMAT, "sha256": _checksum(arrays, text)}
    with replacing(file) as temporary:
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        # In one entry: safetensors writes several in an order that changes from process to process.
        metadata = {_RECORD: json.dumps(record, sort_keys=True)}
        temporary.write_bytes(safetensors.numpy.save(contiguous, metadata))


def read_tensors(file: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Return the arrays and the facts that `write_tensors` wrote.

    Raises:
        ModelError: if the file cannot be read, is of another format, or differs from what was written.
    """
    with readable(file, "restore the model from the registry or a copy", ModelError):
        with safe_open(file, framework="numpy") as opened:
            record = json.loads((opened.metadata() or {}).get(_RECORD, "{}"))
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a mapping)
        if record.get("format") != FORMAT:
            raise ModelError(f"{file}: of format {record.get('format')!r}, expected {FORMAT}; train the model again")
        if _checksum(arrays, record["facts"]) != record.get("sha256"):
            raise ModelError(f"{file}: its checksum does not match; restore the model from the registry or a copy")
        facts: dict[str, Any] = json.loads(record["facts"])
    return arrays, facts


def _checksum(arrays: Arrays, facts: str) -> str:
    content = hashlib.sha256(facts.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        content.update(f"\0{name} {array.dtype} {array.shape}\0".encode())
        content.update(array.data)
    return content.hexdigest()
