"""COCO's files: annotations read with every fault named, and answers written as results (cocodataset.org)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from graft.core.errors import DataError
from graft.data.records import printable
from graft.objects.instance import Instance
from graft.objects.run_length import RunLength, decode_counts, of_runs, polygons

LEAST_POINTS = 3
_PLURAL = {"image": "images", "category": "categories"}
OUTSIDE = 1.0
"""Pixels by which a point may lie outside of its photo: tools round."""


class OutlineError(DataError):
    """The outline of one object cannot be used; the message is one clause."""


@dataclass(frozen=True)
class CocoObject:
    """One annotated object."""

    label: int
    """Index into the labels."""
    segmentation: Any
    """Polygons or a run-length code, as in the file."""
    crowd: bool


@dataclass(frozen=True)
class CocoFile:
    """The content of an annotation file."""

    labels: tuple[str, ...]
    photos: Mapping[str, tuple[int, int] | None]
    """Height and width of every photo by its file name, where the file tells them."""
    objects: Mapping[str, tuple[CocoObject, ...]]
    """The objects of every photo, by its file name."""


def read_coco(file: Path) -> CocoFile:
    """Read an annotation file.

    Raises:
        DataError: if it is no such file, an id appears twice, or an object names an unknown photo or category.
    """
    images, annotations, categories = _parts(file)
    for what, entries in (("image", images), ("annotation", annotations), ("category", categories)):
        _check_ids(file, what, entries)
    order = sorted(categories, key=lambda category: str(category["id"]).zfill(20))
    labels = tuple(str(category.get("name", category["id"])) for category in order)
    if len(set(labels)) < len(labels):
        raise DataError(f"{file}: two categories have the same name")
    index = {category["id"]: at for at, category in enumerate(order)}
    names: dict[Any, str] = {}
    for image in images:
        if not isinstance(image.get("file_name"), str):
            raise DataError(f"{file}: image {image['id']} has no file_name")
        names[image["id"]] = str(PurePosixPath(image["file_name"]))
    if len(set(names.values())) < len(names):
        raise DataError(f"{file}: two images have the same file_name")
    objects: dict[str, list[CocoObject]] = {name: [] for name in names.values()}
    for one in annotations:
        where = f"{file}: annotation {printable(str(one['id']))}"
        for what, key, known in (("image", "image_id", names), ("category", "category_id", index)):
            if not isinstance(one.get(key), int | str) or one[key] not in known:
                named = printable(str(one.get(key)))[:80]
                raise DataError(f"{where} names {what} {named}, which is not among the {_PLURAL[what]}")
        if not one.get("segmentation"):
            raise DataError(f"{where} has no segmentation; task instances learns masks, and a box alone is none")
        found = CocoObject(index[one["category_id"]], one["segmentation"], bool(one.get("iscrowd", 0)))
        objects[names[one["image_id"]]].append(found)
    sizes = {names[image["id"]]: _size(image) for image in images}
    return CocoFile(labels, sizes, {name: tuple(of) for name, of in objects.items()})


def is_coco(file: Path) -> bool:
    """Return whether a JSON file has the parts of COCO's annotations."""
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except (RecursionError, ValueError, OSError):
        return False
    return isinstance(content, dict) and {"images", "annotations"} <= set(content)


def outlined(segmentation: Any, height: int, width: int) -> RunLength:
    """Return the mask of an object, as pycocotools draws it.

    Args:
        segmentation: polygons or a run-length code.
        height, width: of the photo.

    Raises:
        OutlineError: if it is broken or does not lie in the photo.
    """
    try:
        if isinstance(segmentation, dict):
            return _of_code(segmentation, height, width)
        for outline in segmentation:
            points = np.asarray(outline, dtype=np.float64)
            if points.ndim != 1 or len(points) % 2 or len(points) < 2 * LEAST_POINTS or not np.isfinite(points).all():
                raise OutlineError(f"a polygon of {len(points) // 2} points")
            x, y = points[0::2], points[1::2]
            if min(x.min(), y.min()) < -OUTSIDE or x.max() > width + OUTSIDE or y.max() > height + OUTSIDE:
                raise OutlineError(f"a polygon outside of its photo of {width} x {height}")
        return polygons(segmentation, height, width)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise OutlineError(f"an outline that cannot be read ({str(error)[:80]})") from error


def results(
    answers: Sequence[Sequence[Instance]], image_ids: Sequence[Any], category_ids: Mapping[int, Any]
) -> list[dict[str, Any]]:
    """Return answers as a file of results has them.

    Args:
        answers: for every photo.
        image_ids: of the photos.
        category_ids: of each label's index.
    """
    return [
        {
            "image_id": image,
            "category_id": category_ids[one.label],
            "bbox": [round(value, 2) for value in one.box],
            "score": round(one.score, 5),
            "segmentation": one.code.as_coco(),
        }
        for image, photo in zip(image_ids, answers, strict=True)
        for one in photo
    ]


def _parts(file: Path) -> tuple[list[Any], list[Any], list[Any]]:
    needs = "it needs lists of images, annotations and categories"
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
        images, annotations, categories = (content[key] for key in ("images", "annotations", "categories"))
    except (RecursionError, ValueError, KeyError, TypeError, OverflowError, OSError) as error:
        raise DataError(f"{file}: not a COCO file ({type(error).__name__}: {error}); {needs}") from error
    for part in (images, annotations, categories):
        if not isinstance(part, list) or not all(isinstance(entry, dict) for entry in part):
            raise DataError(f"{file}: not a COCO file; {needs}")
    return images, annotations, categories


def _check_ids(file: Path, what: str, entries: Sequence[Mapping[str, Any]]) -> None:
    seen: set[Any] = set()
    for entry in entries:
        own = entry.get("id")
        if not isinstance(own, int | str):
            raise DataError(f"{file}: {what} without an id")
        if own in seen:
            raise DataError(f"{file}: {what} id {printable(str(own))} appears twice")
        seen.add(own)


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    height, width = image.get("height"), image.get("width")
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _of_code(code: Mapping[str, Any], height: int, width: int) -> RunLength:
    if list(code["size"]) != [height, width]:
        raise OutlineError(f"a run-length code of {list(code['size'])} for a photo of {[height, width]}")
    counts = code["counts"]
    return of_runs(decode_counts(counts).tolist() if isinstance(counts, str) else counts, height, width)
