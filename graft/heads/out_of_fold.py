"""Out-of-fold probabilities: the prediction for each training image by a probe that has not seen it.

Only the artifact of `train_head` has `out_of_fold.safetensors`. It contains `probabilities` (n, classes), `ids` uint8
(n, length of an id), and the classes' labels as metadata.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import safe_open

from graft.core.atomic import replacing
from graft.core.boundary import readable
from graft.core.checksums import check_file
from graft.core.errors import ModelError
from graft.heads.protocols import Floats

OUT_OF_FOLD_FILE = "out_of_fold.safetensors"


def write_out_of_fold(folder: Path, ids: Iterable[str], classes: Sequence[str], probabilities: Floats) -> None:
    """Write the probabilities into the folder of a head, which exists.

    Args:
        folder: of the head.
        ids: of the training images, (n,).
        classes: labels of the columns.
        probabilities: (n, classes), each row predicted by a probe that has not seen the image.
    """
    codes = _encoded(ids)
    tensors: dict[str, npt.NDArray[Any]] = {
        "ids": codes.view(np.uint8).reshape(len(codes), codes.itemsize),
        "probabilities": np.ascontiguousarray(probabilities),
    }
    with replacing(folder / OUT_OF_FOLD_FILE) as temporary:
        temporary.write_bytes(safetensors.numpy.save(tensors, {"classes": json.dumps(list(classes))}))


def read_out_of_fold(folder: Path, ids: Iterable[str], classes: Sequence[str]) -> Floats:
    """Return the probabilities of the training images, (n, classes), in the order of `ids`.

    Args:
        folder: of the head.
        ids: of all training images of the dataset, (n,), in any order. Copies of one file share an id; their order
            distinguishes them.
        classes: of the dataset, in its order.

    Raises:
        ModelError: if the folder has no probabilities, or those of other images or classes.
    """
    file = folder / OUT_OF_FOLD_FILE
    if not file.is_file():
        raise ModelError(f"{folder}: no out-of-fold probabilities ({file.name} is missing); train_head writes them")
    check_file(file)
    with readable(file, "train the head again", ModelError):
        with safe_open(file, framework="numpy") as tensors:
            codes, probabilities = tensors.get_tensor("ids"), tensors.get_tensor("probabilities")
            columns = json.loads(tensors.metadata()["classes"])
        if codes.ndim != 2 or probabilities.shape != (len(codes), len(columns)):
            raise ValueError(f"ids {codes.shape}, probabilities {probabilities.shape}")
    known, asked = codes.view(f"S{codes.shape[1]}")[:, 0], _encoded(ids)
    sorted_known, sorted_asked = np.argsort(known, kind="stable"), np.argsort(asked, kind="stable")
    if columns != list(classes) or not np.array_equal(known[sorted_known], asked[sorted_asked]):
        raise ModelError(f"{file}: not of the training images of this dataset; train the head on its features")
    rows = np.empty(len(asked), np.int64)
    rows[sorted_asked] = sorted_known
    found: Floats = probabilities[rows]
    return found


def _encoded(ids: Iterable[str]) -> npt.NDArray[np.bytes_]:
    return np.array(list(ids), dtype=np.bytes_)
