"""Corrections of answers, as review queues that `relabel` takes.

A picture of the run's own data is queued under its path there, in `queue.csv`. Any other picture is kept in
`new/images`, with a manifest that says what the model answered, and queued in `new/queue.csv`; once relabelled, that
folder is data to learn from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from graft.core.atomic import replacing
from graft.core.cache import lock_entry
from graft.core.csv_table import CsvTable, Dialect, read_csv
from graft.core.errors import DataError
from graft.data.dataset import ImageDataset
from graft.data.label_queue import QUEUE_COLUMNS
from graft.data.manifest import MANIFEST
from graft.imaging.decode import open_image
from graft.imaging.signatures import EXTENSIONS

QUEUE = "queue.csv"
MOST_IMAGES = 10_000
"""New images that may wait, so that nobody fills the disk with them."""
MANIFEST_COLUMNS = ("path", "label")


@dataclass(frozen=True)
class Queued:
    """Where a correction was put."""

    queue: Path
    path: str
    """Of the image, as the queue names it."""
    command: str
    """That applies the queue."""


@dataclass(frozen=True)
class Corrections:
    """The queues in a folder.

    Attributes:
        folder: of the queues; made at the first correction.
        labels: that a correction may name.
        known: path and label of the images of the run's data, by the sha256 of their content.
    """

    folder: Path
    labels: tuple[str, ...]
    known: Mapping[str, tuple[str, str]] = field(default_factory=dict, repr=False)

    def add(self, content: bytes, answer: str, right: str) -> Queued:
        """Queue a picture whose right label a person has named; a later correction replaces an earlier one.

        Args:
            content: of the image file.
            answer: the model's answer, which the person saw.
            right: the right label; equal to the answer if that was confirmed.

        Raises:
            DataError: if a label is not one of the model's, `content` is not an image, or too many wait.
        """
        for label in (answer, right):
            if label not in self.labels:
                raise DataError(f"label {label!r} is not one of the model's: {', '.join(self.labels[:20])}")
        digest = sha256(content).hexdigest()
        if digest in self.known:
            path, label = self.known[digest]
            queue = self.folder / QUEUE
            self._queue(queue, path, label, right, dict(self.known.values()))
            return Queued(queue, path, f"make relabel FILE={queue}")
        queue, images = self.folder / "new" / QUEUE, self.folder / "new" / "images"
        path = f"{digest[:16]}{_extension(content)}"
        with lock_entry(images):
            labels = _labels(images / MANIFEST)
            if path not in labels:
                if len(labels) >= MOST_IMAGES:
                    raise DataError(f"{images}: {len(labels):,} corrected images wait there; relabel them first")
                with replacing(images / path) as temporary:
                    temporary.write_bytes(content)
                labels[path] = answer
                _write(images / MANIFEST, MANIFEST_COLUMNS, list(labels.items()))
        self._queue(queue, path, labels[path], right, labels)
        # The first picture of a class may be a corrected one: no image of the manifest has its label yet.
        return Queued(queue, path, f"make relabel FILE={queue} DATA={images} NEW_CLASSES=1")

    @staticmethod
    def _queue(file: Path, path: str, label: str, right: str, labels: Mapping[str, str]) -> None:
        """Add or replace a row; rows that were applied, whose image has another label by now, go."""
        decision = "keep" if right == label else "relabel"
        row = (path, label, right, "1.0", decision, right if decision == "relabel" else "")
        with lock_entry(file):
            before = [tuple(of[name] for name in QUEUE_COLUMNS) for of in _rows(file)]
            open_rows = [one for one in before if one[0] != path and labels.get(one[0]) == one[1]]
            _write(file, QUEUE_COLUMNS, [*open_rows, row])


def images_of_run(dataset: ImageDataset | None) -> dict[str, tuple[str, str]]:
    """Return path and label of a dataset's images by the sha256 of their content."""
    if dataset is None or "label" not in dataset.table:
        return {}
    table = dataset.table
    return dict(zip(table["id"], zip(table["path"].astype(str), table["label"].astype(str), strict=True), strict=True))


def _labels(manifest: Path) -> dict[str, str]:
    return {row["path"]: row["label"] for row in _rows(manifest)}


def _rows(file: Path) -> list[dict[str, str]]:
    return [row for _, row in read_csv(file).records()] if file.exists() else []


def _write(file: Path, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    CsvTable(file, columns, tuple(rows), tuple(range(2, len(rows) + 2)), Dialect()).write(file)


def _extension(content: bytes) -> str:
    """Return the usual extension of an image file's format.

    Raises:
        ImageError: if it is no image.
    """
    return EXTENSIONS.get(open_image(content).format or "", (".img",))[0]
