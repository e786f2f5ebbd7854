"""How a finding is shown on any page: its message and remedy, thumbnails of its files, and their names."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from graft.data.records import printable
from graft.quality.findings import KINDS, SEVERITIES, Finding

FOLDER = "finding_view"
"""Where `finding.html.j2` lies, whose macros show what `viewed` returns."""
STYLE = f"{FOLDER}/finding.css"
WORDS = {"fail": "must be mended", "warn": "look at it", "info": "good to know"}
BADGES = [(severity, WORDS[severity]) for severity in SEVERITIES]
SIDE = 168
"""Longest side of a finding's thumbnails, in pixels."""
MOST_PICTURES = 12
MOST_GROUPS = 8
MOST_IN_GROUP = 4
MOST_NAMED = 400


@dataclass(frozen=True, slots=True)
class Picture:
    """One thumbnail with what is said about it."""

    name: str
    label: str
    split: str
    detail: str
    uri: str | None
    """None: there is nothing that could be shown."""
    dropped: bool = False


def pictured(finding: Finding) -> Sequence[str]:
    """Return the files of a finding that are shown as pictures."""
    if finding.groups:
        return [path for group in finding.groups[:MOST_GROUPS] for path in group[:MOST_IN_GROUP]]
    return finding.files[:MOST_PICTURES]


def viewed(finding: Finding, picture: Callable[[str], Picture | None]) -> dict[str, Any]:
    """Return what the macros need; `picture` gives that of a file, None for what is no image."""

    def all_of(paths: Sequence[str]) -> list[Picture]:
        return [one for one in map(picture, paths) if one is not None]

    return {
        "finding": finding,
        "title": KINDS[finding.kind].title,
        "detail": _detail(finding),
        "pictures": [] if finding.groups else all_of(finding.files[:MOST_PICTURES]),
        "groups": [all_of(group[:MOST_IN_GROUP]) for group in finding.groups[:MOST_GROUPS]],
        "names": [printable(path) for path in finding.files[:MOST_NAMED]],
    }


def _detail(finding: Finding) -> str:
    """Return what the message says beyond the title, the number and the names, which stand beside it."""
    text = finding.message.removeprefix(f"{finding.kind}: ")
    return "" if text.startswith(f"{KINDS[finding.kind].title}: ") else text
