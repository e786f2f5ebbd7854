"""Some labelled images of the target: they decide whether the adapted model is better, and are not trained on."""

import csv
import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graft.core.errors import DataError
from graft.data.safe_paths import is_file, read_bytes
from graft.heads.protocols import Ints

COLUMNS = ("path", "label")


@dataclass(frozen=True)
class LabelledCheck:
    """Labelled images of the target."""

    files: tuple[Path, ...]
    targets: Ints
    """Index of each image's class in the model's labels, (m,)."""
    ids: tuple[str, ...]
    """sha256 of each one's content: the model is adapted to other images."""

    @classmethod
    def read(cls, file: Path, folder: Path, labels: Sequence[str]) -> "LabelledCheck":
        """Read a CSV file with the columns `path` and `label`.

        Args:
            file: the CSV file; its paths are relative to its own folder, or to `folder`.
            folder: of the target's images.
            labels: of the model.

        Raises:
            DataError: for a missing file or column, an image that is not there, or a label that is not the model's.
        """
        try:
            with file.open(newline="", encoding="utf-8-sig") as opened:
                reader = csv.DictReader(opened)
                missing = [column for column in COLUMNS if column not in (reader.fieldnames or [])]
                if missing:
                    found = ", ".join(reader.fieldnames or []) or "none"
                    raise DataError(f"{file}: no column {missing[0]!r}; columns: {found}")
                rows = [(row["path"] or "", row["label"] or "") for row in reader]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{file}: cannot be read ({error})") from error
        if not rows:
            raise DataError(f"{file}: no labelled images")
        files, targets, ids = [], [], []
        for number, (path, label) in enumerate(rows, start=2):
            if label not in labels:
                close = difflib.get_close_matches(label, labels, n=2)
                hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"labels: {', '.join(labels)}"
                raise DataError(f"{file}, line {number}: the model knows no label {label!r}; {hint}")
            place = next((place for place in (file.parent / path, folder / path) if is_file(place)), None)
            if place is None:
                raise DataError(f"{file}, line {number}: no image {path!r} beside the file or in {folder}")
            try:
                ids.append(hashlib.sha256(read_bytes(place)).hexdigest())
            except DataError as error:
                raise DataError(f"{file}, line {number}: {path} {error}") from error
            files.append(place)
            targets.append(labels.index(label))
        return cls(tuple(files), np.array(targets, dtype=np.int64), tuple(ids))

    def contents(self) -> list[bytes]:
        """Return the image files."""
        return [read_bytes(file) for file in self.files]
