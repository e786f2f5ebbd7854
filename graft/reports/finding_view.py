"""The presentation of a finding on any page: its message and remedy, thumbnails of its files, and their names."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from graft.data.records import printable
from graft.quality.findings import KINDS, SEVERITIES, Finding

FOLDER = "finding_view"
"""Folder of `finding.html.j2`, whose macros show what `finding_view` returns."""
STYLE = f"{FOLDER}/finding.css"
SEVERITY_WORDS = {"fail": "must be fixed", "warn": "please check", "info": "good to know"}
BADGES = [(severity, SEVERITY_WORDS[severity]) for severity in SEVERITIES]
SIDE = 168
"""Longest side of a finding's thumbnails, in pixels."""
MAX_PICTURES = 12
MAX_GROUPS = 8
MAX_IN_GROUP = 4
MAX_NAMED = 400


@dataclass(frozen=True, slots=True)
class Picture:
    """One thumbnail with its caption."""

    name: str
    label: str
    split: str
    detail: str
    uri: str | None
    """The thumbnail; None if the file cannot be shown."""
    dropped: bool = False


def shown_files(finding: Finding) -> Sequence[str]:
    """Return the files of a finding that are shown as pictures."""
    if finding.groups:
        return [path for group in finding.groups[:MAX_GROUPS] for path in group[:MAX_IN_GROUP]]
    return finding.files[:MAX_PICTURES]


def finding_view(finding: Finding, picture: Callable[[str], Picture | None]) -> dict[str, Any]:
    """Return the values that the template macros need.

    Args:
        finding: the finding.
        picture: returns the picture of a file; None if the file is not an image.
    """

    def pictures_of(paths: Sequence[str]) -> list[Picture]:
        return [one for one in map(picture, paths) if one is not None]

    return {
        "finding": finding,
        "title": KINDS[finding.kind].title,
        "detail": _detail(finding),
        "pictures": [] if finding.groups else pictures_of(finding.files[:MAX_PICTURES]),
        "groups": [pictures_of(group[:MAX_IN_GROUP]) for group in finding.groups[:MAX_GROUPS]],
        "names": [printable(path) for path in finding.files[:MAX_NAMED]],
    }


def _detail(finding: Finding) -> str:
    """Return the message unless it only repeats title, number and names, which are shown beside it."""
    text = finding.message.removeprefix(f"{finding.kind}: ")
    return "" if text.startswith(f"{KINDS[finding.kind].title}: ") else text
