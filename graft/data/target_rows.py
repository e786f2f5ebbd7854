"""Images of target domains: rows of a manifest with `split=target`, most of them without a label.

They lie beside the images that are learnt, in the folder of the same dataset, but in a dataset of their own: no step
that learns opens it.
"""

import difflib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from graft.core.errors import DataError, ParamsError
from graft.data.dataset import ImageDataset, write_dataset
from graft.data.records import Record, printable
from graft.data.safe_paths import read_bytes

FOLDER = "target"
UNNAMED = "target"
"""Domain of rows that name none."""


@dataclass(frozen=True)
class TargetDomain:
    """The images of one domain."""

    name: str
    images: ImageDataset
    """Of all domains."""
    rows: tuple[int, ...]
    """Of this one."""


def write_targets(records: Sequence[Record], dataset: ImageDataset) -> None:
    """Write the images of target domains into the folder of the dataset that is learnt; nothing if there are none.

    Raises:
        DataError: if the dataset asks more than one question of an image, a label is none of the dataset's, or a file
            cannot be read.
    """
    if not records:
        return
    if dataset.further_tasks or not dataset.task.exclusive:
        raise DataError(
            f"{len(records)} rows have split=target, and only a model of one label for each image can be adapted; "
            "leave these rows out, or learn one column with validate_data.labels"
        )
    unlabelled = {record.domain for record in records if not record.label}
    for record in records:
        if record.domain not in unlabelled:
            raise DataError(
                f"domain {record.domain or UNNAMED!r}: every row with split=target has a label, and such images are "
                "not adapted to; leave the labels of those to adapt to empty, or write split=train to learn them"
            )
        if record.label and record.label not in dataset.classes:
            close = difflib.get_close_matches(record.label, dataset.classes, n=2)
            hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "leave it empty"
            raise DataError(
                f"{printable(record.path)}: {record.label!r} of split=target is no label of the training images; {hint}"
            )
    table = pd.DataFrame(
        {
            "id": [hashlib.sha256(content).hexdigest() for content in _contents(records)],
            "path": [record.path for record in records],
            "label": [record.label for record in records],
            "domain": [record.domain or UNNAMED for record in records],
        }
    ).assign(split="test", format="", mode="", width=0, height=0, bytes=0)
    table["group"] = table["id"]
    spec = dataset.spec
    write_dataset(
        dataset.path / FOLDER,
        table,
        _contents(records),
        spec.classes,
        spec.channels,
        spec.task,
        spec.max_pixels,
        value_range=spec.value_range,
    )


def has_targets(dataset: Path) -> bool:
    """Return whether a dataset has images of target domains."""
    return (dataset / FOLDER).is_dir()


def read_targets(dataset: Path, name: str | None = None) -> list[TargetDomain]:
    """Return the target domains of a dataset in alphabetical order.

    Args:
        dataset: folder of the dataset that is learnt.
        name: of the only one to return; None: all.

    Raises:
        ParamsError: if there is none of that name; it names the nearest.
    """
    if not has_targets(dataset):
        return []
    images = ImageDataset.read(dataset / FOLDER)
    domains = images.table["domain"].to_numpy(dtype=str)
    names = sorted(set(domains.tolist()))
    if name is not None and name not in names:
        close = difflib.get_close_matches(name, names, n=2)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"domains: {', '.join(names)}"
        raise ParamsError(f"adapt.domain={name}: no row with split=target has this domain; {hint}")
    chosen = names if name is None else [name]
    return [TargetDomain(one, images, tuple(np.flatnonzero(domains == one).tolist())) for one in chosen]


def _contents(records: Sequence[Record]) -> Iterator[bytes]:
    for record in records:
        try:
            yield read_bytes(record.file, resolved=True)
        except DataError as error:
            raise DataError(f"{printable(record.path)}: {error}") from error
