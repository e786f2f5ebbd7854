"""Arrays in safetensors files, compared with their checksums when they are read."""

from pathlib import Path
from typing import Any

import numpy.typing as npt

from graft.core.boundary import readable
from graft.core.checksums import check_file
from graft.core.errors import GraftError, ModelError

Arrays = dict[str, npt.NDArray[Any]]


def read_arrays(file: Path, *needed: str, error: type[GraftError] = ModelError) -> Arrays:
    """Return the arrays of a file by name.

    Args:
        file: in the format of safetensors, which holds no code.
        needed: names that it must have.
        error: the type to raise.

    Raises:
        GraftError: of this type, if the file cannot be read or lacks an array; a DamagedError if it differs from its
            checksum.
    """
    import safetensors.numpy  # late: not every step needs it

    check_file(file)
    with readable(file, "train the model again, or restore it from the registry or a copy", error):
        arrays: Arrays = safetensors.numpy.load_file(file)
        for name in needed:
            if name not in arrays:
                raise ValueError(f"it has no tensor {name!r}")
    return arrays
