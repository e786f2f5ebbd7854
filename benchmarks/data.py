"""The datasets of the benchmarks, as artifacts of the pipeline."""

import hashlib
import io
import os
from pathlib import Path

import pandas as pd
from PIL import Image

from graft.data.dataset import ImageDataset, write_dataset

ROOT = Path(__file__).resolve().parents[1]


def folder_of(name: str) -> Path:
    """Return the folder of a dataset: data/NAME (make data NAME=...), or data/NAME in the folder GRAFT_SHARED.

    Raises:
        SystemExit: if it is in neither place.
    """
    shared = Path(os.environ.get("GRAFT_SHARED", ROOT.parent / "shared"))
    for folder in (ROOT / "data" / name, shared / "data" / name):
        if (folder / "train").is_dir():
            return folder
    raise SystemExit(f"benchmarks: {name} is missing; make data NAME={name}, or set GRAFT_SHARED")


def dataset_of(name: str, place: Path) -> ImageDataset:
    """Write the dataset as an artifact: every fifth training image becomes validation, the folder `val` is the test."""
    folder = folder_of(name)
    classes = sorted(path.name for path in (folder / "train").iterdir() if path.is_dir())
    rows, contents = [], []
    for part, split in (("train", "train"), ("val", "test")):
        for label in classes:
            for number, file in enumerate(sorted((folder / part / label).iterdir())):
                content = file.read_bytes()
                image = Image.open(io.BytesIO(content))
                rows.append(
                    {
                        "id": hashlib.sha256(content).hexdigest(),
                        "path": f"{part}/{label}/{file.name}",
                        "label": label,
                        "split": "val" if split == "train" and number % 5 == 0 else split,
                        "group": f"{part}/{label}/{file.name}",
                        "domain": "",
                        "format": image.format,
                        "mode": image.mode,
                        "width": image.width,
                        "height": image.height,
                        "bytes": len(content),
                    }
                )
                contents.append(content)
    return write_dataset(place, pd.DataFrame(rows), contents, classes)
