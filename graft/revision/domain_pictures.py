"""Pictures for the page of an adaptation: of both domains, and of images whose answer changed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from graft.adapt.adaptation import AdaptationResult
from graft.core.errors import DataError
from graft.data.dataset import ImageDataset
from graft.imaging.transform import Transform
from graft.reports.thumbnails import thumbnail, thumbnail_of_file
from graft.stats.subsampling import evenly_spaced

CHANGED, SEEN, SIDE = 24, 8, 220


class Picture(NamedTuple):
    """An image as a page shows it."""

    path: str
    uri: str


class Changed(NamedTuple):
    """An image whose answer changed."""

    picture: Picture
    before: str
    after: str
    confidence: float


def training_pictures(dataset: ImageDataset, transform: Transform) -> list[Picture]:
    """Return some of the training images, evenly spaced over the classes."""
    rows = dataset.labelled("train")
    rows = rows[np.argsort(dataset.targets()[rows], kind="stable")]
    rows = rows[evenly_spaced(len(rows), min(SEEN, len(rows)))]
    reader, paths = dataset.reader(), dataset.table["path"]
    found = (_picture(paths.iloc[row], reader[int(row)], transform) for row in rows)
    return [picture for picture in found if picture]


def target_pictures(result: AdaptationResult) -> list[Picture]:
    """Return some of the domain's images."""
    found = (_of_target(result, path) for path in result.images.at_most(SEEN).files)
    return [picture for picture in found if picture]


def changed_answers(result: AdaptationResult, labels: Sequence[str], most: int = CHANGED) -> list[Changed]:
    """Return images whose answer changed, evenly spaced in the order of their paths."""
    if result.after is None:
        return []
    before, after = result.before.argmax(axis=1), result.after.argmax(axis=1)
    rows = sorted(np.flatnonzero(before != after), key=result.images.files.__getitem__)
    found = []
    for row in (rows[place] for place in evenly_spaced(len(rows), most)):
        if picture := _of_target(result, result.images.files[row]):
            confidence = float(result.after[row].max())
            found.append(Changed(picture, labels[before[row]], labels[after[row]], confidence))
    return found


def _of_target(result: AdaptationResult, path: str) -> Picture | None:
    transform = result.bundle.transform
    file = result.images.folder / path
    uri = thumbnail_of_file(file, SIDE, transform.channels, transform.value_range, square=True)
    return Picture(path, uri) if uri else None


def _picture(path: str, content: bytes, transform: Transform) -> Picture | None:
    try:
        uri = thumbnail(content, SIDE, square=True, channels=transform.channels, values=transform.value_range)
    except DataError:
        return None
    return Picture(path, uri)
