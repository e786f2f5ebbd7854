"""The table of an inventory: one row per file, with what was measured on it and what its manifest says of it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain, islice

import numpy as np
import pandas as pd

from graft.data.records import Listing, Record
from graft.quality.image_statistics import Examination, extension_fits

OWN_PREFIX = "manifest:"
"""Before the name of a column of the user's manifest that the inventory has too, such as `width`."""
_BLOCK_ROWS = 1024
_GREY_SATURATION = 0.01
# A file that is none of these by name was not meant to be an image (README.txt): it is not a broken one.
_NOT_AN_IMAGE_FAULTS = ("undecodable", "unsupported", "empty_file")
_COLUMNS = (
    *("path", "label", "given_split", "group", "domain", "id", "bytes", "fault", "fault_text"),
    *("format", "mode", "width", "height", "frames", "orientation", "gps", "personal", "quantisation", "profile"),
    *("brightness", "contrast", "darkest", "brightest", "sharpness", "entropy"),
    *("red", "green", "blue", "saturation", "seen_through", "extension_fits", "srgb", "plain_mode", "warning"),
    *("empty_alpha", "least", "greatest", "not_finite", "floats"),
)
_TEXT_COLUMNS = (
    *("label", "group", "domain", "id", "fault", "fault_text"),
    *("format", "mode", "profile", "given_split", "warning"),
)
_BOOLEAN_COLUMNS = ("gps", "personal", "seen_through", "extension_fits", "srgb", "plain_mode", "empty_alpha")
_NUMBER_COLUMNS = ("least", "greatest", "not_finite")
_DERIVED = ("short_side", "long_side", "aspect", "size_ratio", "odd_grey")
_ADDED_LATER = {
    "split",
    "exact_copies",
    "near_copies",
    "leaks",
    "contradicts",
    "picture",
    "frame",
    "dropped",
    "stretches",
}


def described(listing: Listing, examined: Iterable[Examination], extra: Sequence[str]) -> pd.DataFrame:
    """Return one row per file.

    Args:
        listing: the folder's images, and what else was found there.
        examined: one for each image, put into columns in blocks.
        extra: names of the manifest's other columns, see `extra_names`.
    """
    rows = (
        _row(record, found, listing.layout == "manifest")
        for record, found in zip(listing.records, examined, strict=True)
    )
    problems = (
        {"path": problem.path, "label": problem.label, "fault": problem.kind, "fault_text": problem.message}
        for problem in listing.problems
    )
    frame = _columns(chain(rows, problems))
    for name in _TEXT_COLUMNS:
        frame[name] = frame[name].astype(object).fillna("")
    frame = frame.astype(dict.fromkeys(_NUMBER_COLUMNS, np.float64))
    frame["floats"] = frame["floats"].eq(True)
    frame["bytes"] = frame["bytes"].fillna(0).astype(np.int64)
    area = (frame["width"] * frame["height"]) ** 0.5
    frame["short_side"] = frame[["width", "height"]].min(axis=1)
    frame["long_side"] = frame[["width", "height"]].max(axis=1)
    frame["aspect"] = frame["long_side"] / frame["short_side"]
    frame["size_ratio"] = area / area.median()
    grey = frame["saturation"] < _GREY_SATURATION
    frame["odd_grey"] = grey & (grey.sum() < frame["saturation"].count() / 2)
    for name in extra:
        values = [record.extra.get(name.removeprefix(OWN_PREFIX), "") for record in listing.records]
        frame[name] = [*values, *("" for _ in listing.problems)]
    return frame


def extra_names(records: Sequence[Record]) -> tuple[str, ...]:
    """Return the names of the manifest's other columns; one that the inventory has too gets a prefix."""
    taken = {*_COLUMNS, *_DERIVED, *_ADDED_LATER}
    return tuple(OWN_PREFIX + name if name in taken else name for name in (records[0].extra if records else ()))


def column_of(name: str, extra: Sequence[str]) -> str:
    """Return the column of the inventory that has the values of a user's column."""
    return next((column for column in extra if column.removeprefix(OWN_PREFIX) == name), name.lower())


def _columns(rows: Iterator[Mapping[str, object]]) -> pd.DataFrame:
    parts: list[pd.DataFrame] = []
    while not (part := pd.DataFrame(list(islice(rows, _BLOCK_ROWS)), columns=pd.Index(_COLUMNS))).empty:
        parts.append(part)
    if len(parts) < 2:
        return parts[0] if parts else pd.DataFrame(columns=pd.Index(_COLUMNS))
    # In a part without a readable file these columns are not boolean: concat would turn the others into numbers.
    booleans = [name for name in _BOOLEAN_COLUMNS if any(part[name].dtype != np.bool_ for part in parts)]
    return pd.concat([part.astype(dict.fromkeys(booleans, object)) for part in parts], ignore_index=True)


def _row(record: Record, found: Examination, named_by_user: bool) -> dict[str, object]:
    row: dict[str, object] = {
        "path": record.path,
        "label": record.label,
        "given_split": record.split or "",
        "group": record.group,
        "domain": record.domain,
        "id": found.id,
        "bytes": found.size,
        "fault": found.fault,
        "fault_text": found.fault_text,
    }
    if found.fault in _NOT_AN_IMAGE_FAULTS and not (record.image or named_by_user):
        row["fault"] = "not_an_image"
    if found.facts is not None and found.statistics is not None:
        row["warning"] = found.warning
        row |= {name: value for name, value in asdict(found.facts).items() if name != "alpha"}
        row |= {name: value for name, value in asdict(found.statistics).items() if name != "signature"}
        row |= asdict(found.extremes) if found.extremes is not None else {}
        row["extension_fits"] = extension_fits(record.path, found.facts.format)
        row["srgb"] = not found.facts.profile or "srgb" in found.facts.profile.lower()
        row["plain_mode"] = found.facts.mode in ("RGB", "L", "RGBA", "LA", "1") or found.facts.mode.endswith("uint8")
    return row
