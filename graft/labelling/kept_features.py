"""The features of predicted images, kept beside each part of the predictions: from them is chosen what to label next.

They are standardised as the model's head reads them, so that half precision suffices, and memory-mapped when they are
read.
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import torch

from graft.core.atomic import remove, replacing
from graft.core.errors import DamagedError
from graft.core.mapped_arrays import open_array
from graft.labelling.pool import Half, Pool
from graft.models.bundle import ModelBundle
from graft.models.prediction_table import PROBABILITY
from graft.models.two_views import TwoHeads

LIMIT = 6e4
"""Largest number kept, just below the largest of half precision."""


def keeps_features(bundle: ModelBundle) -> bool:
    """Return whether images can be chosen for the model: it gives each one label, of two or more."""
    return bundle.task.exclusive and not bundle.further and len(bundle.spec.labels) > 1


def standardised(bundle: ModelBundle, features: npt.NDArray[np.float32]) -> Half:
    """Return features (n, D) as the head reads them, in half precision."""
    head = bundle.classifier.head
    heads = [head.first, head.second] if isinstance(head, TwoHeads) else [head]
    mean, scale = (torch.cat([getattr(one, name) for one in heads]).numpy() for name in ("mean", "scale"))
    return np.asarray(np.clip((features - mean) / scale, -LIMIT, LIMIT), dtype=np.float16)


def write_features(part: Path, found: Sequence[Half]) -> None:
    """Write the features of the images of a part that could be read."""
    with replacing(_file(part)) as temporary, temporary.open("wb") as file:
        np.save(file, np.concatenate(found) if found else np.zeros((0, 1), np.float16))


def read_features(part: Path) -> Half | None:
    """Return the features of a part, memory-mapped; None if there are none. A damaged file is removed."""
    if not _file(part).is_file():
        return None
    try:
        found: Half = open_array(_file(part))
    except DamagedError:
        remove(_file(part))
        return None
    return found


def pool_of(bundle: ModelBundle, parts: Sequence[Path], labelled: Collection[str]) -> Pool:
    """Return the predicted images to choose from: those that could be read and have no label yet.

    Args:
        bundle: the model.
        parts: files of the predictions, with their features beside them.
        labelled: paths of the images that have a label.
    """

    def tables() -> Iterator[tuple[pa.Table, Half]]:
        for part in parts:
            table, features = pq.read_table(part), read_features(part)
            known = table.filter(pa.compute.is_null(table["error"]))
            assert features is not None  # predict_folder has just checked it
            left = np.array([path not in labelled for path in known["path"].to_pylist()], dtype=np.bool_)
            if left.all():
                yield known, features
            elif left.any():
                yield known.filter(pa.array(left)), features[left]

    return Pool.of(tables(), bundle.spec.labels, PROBABILITY)


def _file(part: Path) -> Path:
    return part.with_suffix(".npy")
