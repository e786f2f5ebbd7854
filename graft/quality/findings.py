"""Findings: what a check found, how severe it is, and what to do about it.

`KINDS` lists every kind that `findings.json` may contain. `validate_data.severity` changes severities.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from graft.data.records import printable
from graft.quality.kind import Kind, Severity
from graft.quality.mask_kinds import MASK_KINDS

SEVERITIES: tuple[Severity, ...] = ("fail", "warn", "info")
FAULTS = (
    "empty_file",
    "undecodable",
    "truncated",
    "damaged",
    "decompression_bomb",
    "unsupported",
    "channels",
    "unreadable",
    "missing_file",
    "path_escape",
    "broken_link",
    "special_file",
)
"""Kinds of unusable files; `validate_data.on_bad_image` decides what happens to them."""


_BAD = "repair, replace or remove the file, or set validate_data.on_bad_image=drop to leave it out"
_LOOK = "look at them; remove what a model should not learn from"
KINDS: Mapping[str, Kind] = {
    "empty_file": Kind("files of 0 bytes", "fail", _BAD),
    "undecodable": Kind("files that are not readable images", "fail", _BAD),
    "truncated": Kind("images cut short", "fail", _BAD),
    "damaged": Kind("images with damaged data, which the decoder made up", "fail", _BAD),
    "decompression_bomb": Kind(
        "images with too many pixels",
        "fail",
        "shrink or remove them, or raise validate_data.max_pixels if they are valid",
    ),
    "unsupported": Kind("images in an unsupported format", "fail", "convert them to JPEG or PNG"),
    "channels": Kind(
        "images whose number of channels is not validate_data.channels",
        "fail",
        "set validate_data.channels to the number that all images have, or on_bad_image=drop to leave the others out",
    ),
    "unreadable": Kind("files that could not be read", "fail", _BAD),
    "missing_file": Kind("files in the manifest that do not exist", "fail", "add the file or remove its row"),
    "path_escape": Kind(
        "paths that lead out of the data folder", "fail", "copy the files into the folder; nothing outside it is read"
    ),
    "broken_link": Kind("links that are broken, circular or to a folder", "fail", "replace them with the files"),
    "special_file": Kind("pipes, sockets or devices", "fail", "remove them from the data folder"),
    "left_out": Kind(
        "images that are in no class folder",
        "fail",
        "move them into class folders or out of the data; validate_data.severity.left_out=warn goes on without them",
    ),
    "unlisted": Kind(
        "images that the manifest does not name", "warn", "add rows for them, or move them out of the data folder"
    ),
    "clutter": Kind(
        "images of file managers, archivers or notebooks (@eaDir, __MACOSX, .ipynb_checkpoints)",
        "info",
        "nothing to do: they are no part of the data",
    ),
    "not_an_image": Kind("files that are not images by name and content", "info", "nothing to do: they are left out"),
    "wrong_extension": Kind(
        "file names that do not match the format",
        "warn",
        "rename them; Graft reads the content, other tools rely on the name",
    ),
    "decoder_warning": Kind(
        "images that are read, but about which the decoder warns", "warn", "look at them; save them anew"
    ),
    "animated": Kind(
        "files with several frames",
        "warn",
        "only the first frame is used; save it as a still image, or set validate_data.channels if pages are channels",
    ),
    "rotated": Kind("photos stored rotated (EXIF)", "info", "nothing to do: the orientation is applied"),
    "gps": Kind("photos that carry GPS positions", "warn", "strip the metadata before sharing the data"),
    "personal": Kind(
        "photos that name a person or device (EXIF)", "info", "strip the metadata before sharing the data if it matters"
    ),
    "odd_mode": Kind(
        "palette, 16-bit, CMYK or other unusual modes",
        "info",
        "nothing to do: they are always converted to 8 bits per channel in the same way",
    ),
    "transparent": Kind(
        "images with transparent parts", "info", "they are composited over white; flatten them if it matters"
    ),
    "empty_alpha": Kind(
        "images whose alpha is empty everywhere", "info", "nothing to do: their colours are used as they are"
    ),
    "not_finite": Kind(
        "images with NaN or infinite values",
        "warn",
        "replace them by numbers: NaN is read as black, infinities as black or white",
    ),
    "negative_values": Kind(
        "images with negative values",
        "warn",
        "nothing to do if they are meant (the least value is black); otherwise set validate_data.value_range",
    ),
    "stretched_range": Kind(
        "images whose values are far from those of all others",
        "warn",
        "repair them, or set validate_data.value_range to the range of the others",
    ),
    "colour_profile": Kind(
        "colour profiles other than sRGB", "info", "colours are read as stored; convert to sRGB if they carry meaning"
    ),
    "tiny": Kind("very small images", "warn", _LOOK),
    "huge": Kind("very large images", "warn", "shrink them: they cost time and memory and are scaled down anyway"),
    "extreme_aspect": Kind(
        "very long or very tall images", "warn", "crop them: a square crop shows a small part of them"
    ),
    "size_outlier": Kind(
        "images far larger or smaller than the rest", "warn", "check that they come from the same source as the rest"
    ),
    "uniform": Kind("nearly uniform images", "warn", _LOOK),
    "low_information": Kind("images with little content", "warn", _LOOK),
    "blurred": Kind("blurred images", "warn", _LOOK),
    "dark": Kind("very dark images", "warn", _LOOK),
    "bright": Kind("overexposed images", "warn", _LOOK),
    "grey": Kind(
        "grey pictures among coloured ones",
        "info",
        "check that they are not of one class, which they would give away",
    ),
    "exact_duplicate": Kind(
        "identical files", "warn", "keep one of each; copies count twice in training and in every score"
    ),
    "near_duplicate": Kind(
        "the same picture, re-encoded, resized, mirrored or turned",
        "warn",
        "keep one of each; splits made here keep them together",
    ),
    "leakage": Kind(
        "the same picture or group in more than one split",
        "fail",
        "move each group into one split, or set validate_data.on_leakage=drop to leave out those outside the test set",
    ),
    "contradiction": Kind(
        "the same picture under different labels", "warn", "decide on one label and remove the other copy"
    ),
    "label_error": Kind(
        "labels that the pictures contradict", "warn", "review the queue and apply it with make relabel"
    ),
    "one_class": Kind("only one class", "fail", "add images of at least one more class"),
    "too_few": Kind(
        "classes with too few images",
        "fail",
        "add images, merge or remove the class, or lower validate_data.min_per_class",
    ),
    "label_not_in_train": Kind(
        "labels that training never sees", "fail", "add training images of them or remove them from the other splits"
    ),
    "label_not_in_split": Kind(
        "labels missing from validation or test", "warn", "add images of them there, otherwise no score covers them"
    ),
    "small_test": Kind(
        "test sets too small to measure",
        "info",
        "add test images of these classes, or raise validate_data.test_fraction; until then wide intervals are right",
    ),
    "empty_split": Kind(
        "splits without images", "fail", "add images to them, or set val_fraction and test_fraction above 0"
    ),
    "imbalance": Kind(
        "classes much smaller than the largest", "warn", "collect more, or look at balanced accuracy and macro F1"
    ),
    "label_variant": Kind(
        "labels that differ only in case, spacing, plural or the zeros of a number",
        "warn",
        "rename them to one spelling",
    ),
    "partly_labelled": Kind(
        "images without a label for one of several tasks", "info", "nothing to do: each task learns from its own labels"
    ),
    "association": Kind(
        "tasks whose labels go together", "info", "check that no task could be answered from another's label alone"
    ),
    "shift": Kind(
        "splits with domain shift", "warn", "draw the splits from the same source, or expect different scores in use"
    ),
    "shortcut": Kind(
        "labels that file properties predict",
        "warn",
        "make size, format, compression and borders alike for all classes, or a model may learn those",
    ),
    **MASK_KINDS,
    "expectation": Kind("your expectations that are not met", "fail", "fix the data or the expectation"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of problem with the files that have it."""

    kind: str
    severity: Severity
    count: int
    files: tuple[str, ...]
    """Paths in the data folder; labels if the finding is about classes."""
    message: str
    remedy: str
    groups: tuple[tuple[str, ...], ...] = ()
    """Files that belong together, for duplicates, leakage and contradictions."""

    def as_dict(self) -> dict[str, Any]:
        """Return the entry for `findings.json`."""
        return asdict(self)

    def line(self) -> str:
        """Return message and remedy on one line."""
        return f"{self.message}; {self.remedy}"


def make_finding(kind: str, severity: Severity, files: Sequence[str], detail: str = "", **more: Any) -> Finding:
    """Build a finding of a known kind; the message is `detail`, or names the first files.

    Args:
        kind: a key of `KINDS`.
        severity: the severity of this finding.
        files: affected paths or labels.
        detail: what exactly was found.
        **more: `count`, `remedy` or `groups`, if they differ from the defaults.
    """
    described = KINDS[kind]
    message = f"{kind}: {detail or f'{described.title}: {len(files)}{_named(files)}'}"
    return Finding(
        kind,
        severity,
        more.get("count", len(files)),
        tuple(files),
        message,
        more.get("remedy", described.remedy),
        tuple(tuple(group) for group in more.get("groups", ())),
    )


def verdict(findings: Sequence[Finding]) -> Literal["pass", "warn", "fail"]:
    """Return the worst severity: fail, warn, or pass."""
    found = {finding.severity for finding in findings}
    return "fail" if "fail" in found else "warn" if "warn" in found else "pass"


def _named(files: Sequence[str], most: int = 3) -> str:
    if not files:
        return ""
    more = f" and {len(files) - most} more" if len(files) > most else ""
    return f" ({', '.join(printable(file) for file in files[:most])}{more})"
