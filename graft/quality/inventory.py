"""The inventory: a table of every file found, with everything that the checks use, and a table of the classes."""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from graft.core.errors import DataError
from graft.core.mapped_arrays import temporary_array
from graft.core.progress import progress
from graft.core.text_forms import form_key
from graft.data.listing import list_images
from graft.data.records import SPLITS, Listing, Record, Split, printable
from graft.data.safe_paths import read_bytes
from graft.data.splits import assign_splits, group_rows
from graft.imaging.value_range import ValueRange
from graft.params.validate_data import ValidateDataParams
from graft.quality.examination_cache import open_examination_cache
from graft.quality.image_statistics import SIGNATURE_SIDE, Examination, examine_all
from graft.quality.inventory_table import column_of, described, extra_names
from graft.quality.near_duplicates import NearPairs, find_near_duplicates
from graft.quality.wide_images import share_range, stretching
from graft.tasks.columns import LABEL, TaskColumn, task_columns

MAX_BYTES = 2**30


@dataclass(frozen=True)
class Inventory:
    """The content of a data folder."""

    listing: Listing
    images: pd.DataFrame
    """One row per file, bad ones included. `split` is empty for bad ones; `dropped` is why a row is left out."""
    files: tuple[str, ...]
    """Each row's file."""
    near: NearPairs
    extra: tuple[str, ...]
    """Other columns of the user's manifest; they are in `images` too."""
    moved: tuple[str, ...]
    """Labels of the groups whose split is not that of their hash, see `Assigned`."""
    values: ValueRange | None = None
    """What is black and white in wide images; None if there are none."""
    tasks: tuple[TaskColumn, ...] = (TaskColumn(LABEL),)
    """The columns that are learnt, with their names in `images`."""

    @property
    def kept(self) -> pd.DataFrame:
        """The rows that go into the dataset."""
        return self.images[self.images["dropped"] == ""]

    @property
    def classes(self) -> pd.DataFrame:
        """One row per label of the first task, see `classes_of`."""
        return self.classes_of(self.tasks[0])

    def classes_of(self, task: TaskColumn) -> pd.DataFrame:
        """Return one row per label: kept images in each split, and the ratio of the largest class to it."""
        kept = self.kept[[task.column, "split"]].rename(columns={task.column: "label"})
        if len(self.tasks) > 1 or task.has_tags:
            kept["label"] = kept["label"].map(lambda cell: list(task.labels(cell)))
            kept = kept.explode("label").dropna(subset="label")
        counts = pd.crosstab(kept["label"], kept["split"]).reindex(columns=list(SPLITS), fill_value=0)
        frame = counts.reset_index().rename_axis(columns=None)
        largest = int(frame["train"].max()) if len(frame) else 0
        frame["imbalance"] = [largest / train if train else float("nan") for train in frame["train"]]
        spelled = frame["label"].map(_spelling)
        frame["variants"] = spelled.map(spelled.value_counts()).fillna(1).astype(int) - 1
        return frame

    def contents(self) -> Iterator[bytes]:
        """Yield the bytes of the kept rows, in order; they are read again and compared with the examined hash.

        Raises:
            DataError: if a file has changed since the examination.
        """
        kept = self.kept
        for row, path, identity in zip(kept.index, kept["path"], kept["id"], strict=True):
            try:
                content = read_bytes(self.files[row], MAX_BYTES, resolved=True)
            except DataError as error:
                raise DataError(f"{printable(path)}: {error}; run again when nothing writes to the folder") from error
            if hashlib.sha256(content).hexdigest() != identity:
                raise DataError(
                    f"{printable(path)}: changed while it was read; run again when nothing writes to the folder"
                )
            yield content


def take_inventory(
    root: Path,
    params: ValidateDataParams,
    say: Callable[[str], None] = lambda _: None,
    listing: Listing | None = None,
) -> Inventory:
    """List, examine, compare and split the images of a folder.

    Args:
        root: the data folder.
        params: the step's parameter section.
        say: is told how the folder is read, before any image is opened.
        listing: the folder's images; None: as its class folders or its manifest say.

    Raises:
        DataError: if the folder has no known layout or an invalid manifest.
    """
    asked = task_columns(params.labels)
    given, listing = listing, listing or list_images(root, params.layout, params.label_level, asked)
    if listing.reading:
        say(listing.reading)
    records, problems = listing.records, listing.problems
    extra = extra_names(records)
    tasks = (asked[0], *(replace(task, column=column_of(task.name, extra)) for task in asked[1:]))
    with temporary_array((len(records) + len(problems), SIGNATURE_SIDE, SIGNATURE_SIDE)) as signatures:
        images = described(listing, _examined(records, params, signatures), extra)
        values = share_range(images, signatures, records, params, MAX_BYTES)
        images["stretches"] = stretching(images)[0] & (params.value_range is None)
        usable = np.flatnonzero(images["fault"] == "")
        images["frame"] = _frame_shade(signatures)
        unique = usable[~images["id"].iloc[usable].duplicated().to_numpy()]
        limits = params.thresholds
        near = find_near_duplicates(signatures, limits.similarity, limits.photo_similarity, unique)
    if given is None and listing.layout == "manifest":
        for task in tasks:
            task.check(images[task.column].tolist())
    _compare(images, usable, near)
    moved = _split(images, usable, near, params, tasks)
    files = tuple(record.file for record in records) + tuple(f"{root}/{problem.path}" for problem in problems)
    return Inventory(listing, images, files, near, extra, moved, values, tasks)


def _examined(
    records: Sequence[Record], params: ValidateDataParams, signatures: npt.NDArray[np.uint8]
) -> Iterator[Examination]:
    """Yield the examination of every record, and write the signatures of readable ones to their rows."""
    with open_examination_cache(params.max_pixels, params.channels) as known:
        found = examine_all(records, params.max_pixels, MAX_BYTES, known, channels=params.channels)
        for row, one in enumerate(progress(found, "validate_data", total=len(records))):
            if one.statistics is not None:
                signatures[row] = np.frombuffer(one.statistics.signature, np.uint8).reshape(signatures.shape[1:])
            if known is not None:
                known.add(one)
            yield one


def _frame_shade(signatures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Return the luminance of a uniform border, shape (n,); -1 if there is none."""
    rims = np.concatenate([signatures[:, 0], signatures[:, -1], signatures[:, :, 0], signatures[:, :, -1]], axis=1)
    return np.where(rims.max(axis=1) - rims.min(axis=1) <= 4, rims.mean(axis=1), -1.0)


def _compare(images: pd.DataFrame, usable: npt.NDArray[np.intp], near: NearPairs) -> None:
    """Add the number of copies of each picture, and whether its copies have other labels."""
    ids, labels = images["id"].iloc[usable], images["label"].iloc[usable]
    images["exact_copies"] = (ids.map(ids.value_counts()) - 1).reindex(images.index, fill_value=0).astype(int)
    copies = np.bincount(np.concatenate([near.first, near.second]), minlength=len(images))
    images["near_copies"] = copies
    position = {int(row): place for place, row in enumerate(usable)}
    first = np.array([position[int(row)] for row in near.first], np.int64)
    second = np.array([position[int(row)] for row in near.second], np.int64)
    pictures = pd.Series(group_rows(ids.tolist(), [""] * len(ids), first, second), index=ids.index, dtype=object)
    images["picture"] = pictures.reindex(images.index, fill_value="")
    several = labels[labels != ""].groupby(pictures).nunique()
    images["contradicts"] = images["picture"].map(several).fillna(1) > 1


def _split(
    images: pd.DataFrame,
    usable: npt.NDArray[np.intp],
    near: NearPairs,
    params: ValidateDataParams,
    tasks: Sequence[TaskColumn],
) -> tuple[str, ...]:
    """Add the group, the split, whether the group leaks across given splits, and what is left out.

    Returns:
        Labels of the groups whose split is not that of their hash.
    """
    chosen = images.iloc[usable]
    pictures = chosen["picture"].tolist()
    none = np.empty(0, np.int64)
    # Rows of one picture are connected already; the user's groups connect them further.
    groups = pd.Series(group_rows(pictures, chosen["group"].tolist(), none, none), index=chosen.index, dtype=object)
    given: list[Split | None] = [_as_split(name) for name in chosen["given_split"]]
    spread = chosen["given_split"].groupby(groups).nunique()
    images["group"] = groups.reindex(images.index, fill_value="")
    images["leaks"] = images["group"].map(spread).fillna(1) > 1
    images["dropped"] = np.where(images["fault"] == "", "", images["fault"])
    if params.on_leakage == "drop":
        rank = images["given_split"].map({split: place for place, split in enumerate(SPLITS)})
        best = rank[images["leaks"]].groupby(images["group"]).max()
        images.loc[images["leaks"] & (rank < images["group"].map(best)), "dropped"] = "leakage"
    assigned = assign_splits(
        _labels_to_share(chosen, tasks),
        groups.tolist(),
        given,
        val_fraction=params.val_fraction,
        test_fraction=params.test_fraction,
        seed=params.seed,
    )
    splits = pd.Series(assigned.splits, index=chosen.index, dtype=object)
    images["split"] = splits.reindex(images.index, fill_value="")
    return tuple(sorted(set(chosen["label"][groups.isin(assigned.moved)]) - {""}))


def _labels_to_share(chosen: pd.DataFrame, tasks: Sequence[TaskColumn]) -> Sequence[str | Sequence[str]]:
    """Return the labels of every row that each split should have; those of several tasks by the task's name."""
    if len(tasks) == 1 and not tasks[0].has_tags:
        labels: list[str] = chosen["label"].tolist()
        return labels
    cells = zip(*(chosen[task.column] for task in tasks), strict=True)
    return [
        [f"{task.name}\t{label}" for task, cell in zip(tasks, row, strict=True) for label in task.labels(cell)]
        for row in cells
    ]


def _as_split(name: str) -> Split | None:
    matching: dict[str, Split] = {split: split for split in SPLITS}
    return matching.get(name)


def _spelling(label: str) -> str:
    """Return a label without case, spacing, punctuation and a plural s; a number without needless zeros."""
    key = form_key(label)
    if re.fullmatch(r"[-+. \d]*", key):
        return key
    letters = "".join(character for character in key if character.isalnum())
    return letters.removesuffix("s") or label
