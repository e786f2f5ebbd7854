"""Images in any form that they are asked about: one or many, as files, bytes, pictures, arrays, tensors or tables."""

import glob
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image

from graft.core.errors import DataError
from graft.data.copying import walk_files
from graft.data.safe_paths import decode_name

ACCEPTED = (
    "a path, a folder, a pattern such as photos/*.jpg, bytes, an open file, a PIL image, a uint8 array or tensor, "
    "a table with a column image or path, or any iterable of these"
)
COLUMNS = ("bytes", "image", "path", "file_name", "filename")
"""Columns of a table that hold the images; the first one that is there counts."""
_GREY_OR_COLOUR = (1, 3)


@dataclass(frozen=True)
class AskedImages:
    """The images, in order and as they are: nothing is read before it is needed."""

    images: Iterator[tuple[str, Any]]
    """The name of each, its path or its place, and what `content` takes."""
    one: bool
    """Whether a single image was asked about."""


def asked_images(asked: Any) -> AskedImages:
    """Return the images that somebody asks about.

    A folder stands for every file below it that is not hidden, a pattern for every file that it matches, and an array
    or tensor of four dimensions for one image along its first. Text is a path.

    Raises:
        DataError: if it is none of `ACCEPTED`, or a pattern matches nothing.
    """
    if isinstance(asked, pd.DataFrame):
        name = next((name for name in COLUMNS if name in asked.columns), None)
        if name is None and len(asked.columns) != 1:
            found = ", ".join(map(str, asked.columns))
            raise DataError(f"a table with the columns {found}: expected one of {', '.join(COLUMNS)}")
        return AskedImages(_named(asked[name] if name is not None else asked.iloc[:, 0]), one=False)
    if isinstance(asked, str | PathLike):
        path = Path(asked).expanduser()
        files = _files(path)
        if files is not None:
            return AskedImages(((decode_name(str(file)), file) for file in files), one=False)
        return AskedImages(iter([(decode_name(str(asked)), path)]), one=True)
    if _is_batch(asked):
        return AskedImages(_named(asked), one=False)
    if _is_image(asked):
        return AskedImages(_named([asked]), one=True)
    if isinstance(asked, Iterable) and not isinstance(asked, Mapping):
        return AskedImages(_named(asked), one=False)
    raise DataError(f"{type(asked).__name__}: expected {ACCEPTED}")


def content(image: Any, channels: int = 3) -> bytes | npt.NDArray[Any] | Image.Image:
    """Return an image as a file's content, an array (H, W[, channels]) or a PIL image.

    Args:
        image: what `AskedImages` yields.
        channels: of the model, to tell the axes of a tensor.

    Raises:
        DataError: if it is none of `ACCEPTED`, or cannot be read.
    """
    if isinstance(image, str | PathLike):
        try:
            return Path(image).read_bytes()
        except (OSError, ValueError) as error:
            raise DataError(getattr(error, "strerror", None) or str(error)) from error
    if isinstance(image, Mapping):  # a row of a table, or of Hugging Face's datasets
        found = next((image[name] for name in COLUMNS if image.get(name) is not None), None)
        if found is None:
            raise DataError(f"a row without {', '.join(COLUMNS)}")
        return content(found, channels)
    if isinstance(image, bytearray | memoryview | np.bytes_):
        return bytes(image)
    if isinstance(image, bytes | Image.Image):
        return image
    if isinstance(image, torch.Tensor):
        array = image.detach().cpu().numpy()
        planes = (*_GREY_OR_COLOUR, channels)
        return np.moveaxis(array, 0, -1) if array.ndim == 3 and array.shape[0] in planes else _array(array)
    if isinstance(image, np.ndarray):
        return _array(image)
    if hasattr(image, "read"):
        found = image.read()
        if not isinstance(found, bytes):
            raise DataError(f"a file that gives {type(found).__name__}: open it in binary mode")
        return found
    if image is None or image is pd.NA or isinstance(image, float):
        raise DataError("no image")
    raise DataError(f"{type(image).__name__}: expected {ACCEPTED}")


def _array(array: npt.NDArray[Any]) -> bytes | npt.NDArray[Any]:
    """Return pixels as they are, and a file's content in an array of one dimension as bytes."""
    return array.tobytes() if array.ndim == 1 and array.dtype == np.uint8 else array


def _named(images: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    for place, image in enumerate(images):
        yield decode_name(str(image)) if isinstance(image, str | PathLike) else f"image {place}", image


def _files(path: Path) -> list[Path] | None:
    """Return the files of a folder or a pattern; None if the path is neither."""
    if path.is_dir():
        return [path / name for name in sorted(walk_files(path))]
    if not glob.has_magic(str(path)) or path.exists():
        return None
    found = sorted(Path(name) for name in glob.glob(str(path), recursive=True))  # noqa: PTH207 (absolute patterns)
    files = [file for file in found if not file.is_dir()]
    if not files:
        raise DataError(f"{path}: no file matches")
    return files


def _is_batch(asked: Any) -> bool:
    if isinstance(asked, np.ndarray):
        return asked.ndim == 4 or asked.dtype == object or (asked.ndim == 1 and asked.dtype.kind in "US")
    return isinstance(asked, torch.Tensor) and asked.ndim == 4


def _is_image(asked: Any) -> bool:
    kinds = (bytes, bytearray, memoryview, Image.Image, np.ndarray, np.bytes_, torch.Tensor)
    return isinstance(asked, kinds) or hasattr(asked, "read") or (isinstance(asked, Mapping) and _is_row(asked))


def _is_row(asked: Mapping[Any, Any]) -> bool:
    """Return whether a mapping is one image, and not a table of lists."""
    return any(name in asked and not isinstance(asked[name], list | tuple) for name in COLUMNS)
