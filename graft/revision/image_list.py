"""A list of images in a CSV file, named by their content or their path, as a dataset without labels that count."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from graft.core.csv_table import read_csv
from graft.core.errors import DataError
from graft.data.copying import walk_files
from graft.data.dataset import ImageDataset, write_dataset
from graft.data.safe_paths import is_file, read_bytes

NO_LABEL = "?"


def write_listed_images(file: Path, folder: Path, out: Path, channels: int = 3) -> ImageDataset:
    """Write the images that a list names as a dataset.

    Args:
        file: CSV with a column `id` (sha256 of each image's bytes) or `path` (relative to `folder`).
        folder: where the images are, with any subfolders.
        out: of the dataset.
        channels: of the images.

    Raises:
        DataError: if the file has neither column or no row, or an image is not in the folder.
    """
    table = read_csv(file)
    column = next((name for name in ("id", "path") if name in table.columns), None)
    if column is None:
        raise DataError(f"{file}: no column id or path; it has {', '.join(table.columns)}")
    wanted = list(dict.fromkeys(table.values(column)))
    if not wanted:
        raise DataError(f"{file}: names no image")
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of images")
    found = dict(_by_id(folder, set(wanted))) if column == "id" else {path: path for path in wanted}
    missing = [name for name in wanted if name not in found or not is_file(folder / found[name])]
    if missing:
        raise DataError(f"{len(missing):,} of {len(wanted):,} images are not in {folder}, such as {missing[0]}")
    paths = [found[name] for name in wanted]
    contents = [read_bytes(folder / path) for path in paths]
    images = pd.DataFrame({"path": paths, "id": [hashlib.sha256(content).hexdigest() for content in contents]})
    images = images.assign(label=NO_LABEL, split="train", domain="", format="", mode="", width=0, height=0)
    images["group"], images["bytes"] = images["id"], [len(content) for content in contents]
    return write_dataset(out, images, contents, (NO_LABEL,), channels)


def _by_id(folder: Path, wanted: set[str]) -> Iterator[tuple[str, str]]:
    """Yield content id and path of the wanted images below a folder."""
    for path in walk_files(folder):
        if (folder / path).is_file():
            identity = hashlib.sha256((folder / path).read_bytes()).hexdigest()
            if identity in wanted:
                yield identity, path
