"""Pages with names at random: whatever a class, a file or a run is called, it is shown as text."""

from collections.abc import Callable
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd

from graft.continual.forgetting import Forgetting
from graft.continual.guard import RecallChange
from graft.continual.history import Experience, History
from graft.data.records import printable
from graft.evaluation.leaderboard import leaderboard
from graft.params.validate_data import ValidateDataParams
from graft.quality.validation import validate
from graft.reports import data_page, evaluation_page
from graft.reports.label_page import render_queue
from graft.reports.leaderboard_page import render_leaderboard
from graft.reports.update_page import render_update
from graft.stats.confidence_intervals import Interval
from tests.evaluation.test_leaderboard import answers, entrant
from tests.reports.test_evaluation_page import made_report
from tests.support.pictures import picture

Names = tuple[str, str, str]
PLAIN: Names = ("ant", "bee", "cat")
NAMES = b'<script>alert(1)</script>\n"><img src=x onerror=alert(1)>\n{{ 7 * 7 }} javascript:alert(1) ]]> --> </style>'
HARMLESS = ("#", "data:", "https://", "http://www.w3.org")
LONGEST = 120


class _Outline(HTMLParser):
    """The kinds of elements of a page with the names of their attributes, the number of its scripts, and addresses."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: set[tuple[str, ...]] = set()
        self.scripts = 0
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements |= {(tag, name) for name, _ in attrs} | {(tag,)}
        self.scripts += tag == "script"
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "action")]


def pages() -> dict[str, Callable[[Path, Names], str]]:
    """Return what renders each page with three names."""
    return {"labels": _labels, "update": _update, "runs": _runs, "evaluation": _evaluation, "data": _data}


def shows_names_as_text(render: Callable[[Path, Names], str]) -> Callable[[Path], tuple[bytes, Callable]]:
    """Fuzz the names on a page; an attempt fails if they become elements, attributes or addresses."""

    def prepare(work: Path) -> tuple[bytes, Callable[[bytes], object]]:
        work.mkdir()
        plain = _Outline(render(work / "plain", PLAIN))
        tries = 0

        def attempt(content: bytes) -> object:
            nonlocal tries
            tries += 1
            found = _Outline(render(work / str(tries), _names(content)))
            # A page may have more of the same with other names, as a hint beside a long one; a script it may not.
            assert found.scripts == plain.scripts, "a name became a script"
            active = {one for one in found.elements - plain.elements if one[0] not in ("abbr", "wbr", "span", "small")}
            assert not active, f"a name became {sorted(active)}"
            strange = [one for one in found.addresses if one not in plain.addresses and ":" in one.partition("/")[0]]
            assert all(one.startswith(HARMLESS) for one in strange), f"a name became the address {strange}"
            return found

        return NAMES, attempt

    return prepare


def _names(content: bytes) -> Names:
    """Return three different texts as names of classes may be: without control characters, not empty."""
    texts = [printable(line)[:LONGEST] for line in content.decode("utf-8", "replace").split("\n")]
    first, second, third = (*texts, "", "", "")[:3]
    return f"{first}0", f"{second}1", f"{third}2"


def _labels(work: Path, names: Names) -> str:
    one, other, path = names
    row = {"path": path, "label": one, "suggested": other, "score": 0.9, "decision": "", "new_label": "", "row": 0}
    return render_queue(pd.DataFrame([row]), 10, None)


def _update(work: Path, names: Names) -> str:
    between = Interval(0.5, 0.4, 0.6)
    found = Forgetting(np.full((2, 2), 0.5), np.array([10, 10]), between, between, between, between)
    changes = [RecallChange(name, 10, 0.5, 0.6, between) for name in names]
    learnt = [
        Experience(name=name, learnt_on=date(2026, 1, 2), images=9, test_images=3, classes=dict.fromkeys(names, 3),
                   digest="d" * 64, method=names[2])
        for name in names[:2]
    ]  # fmt: skip
    numbers = {
        "headline": names[0], "base": {"address": names[1]}, "reason": names[2], "guard": list(names),
        "calibrated": True, "memory_bytes": 10,
    }  # fmt: skip
    return render_update(numbers, found, changes, changes, History(experiences=tuple(learnt)), date(2026, 1, 2))


def _runs(work: Path, names: Names) -> str:
    first = entrant(names[0], answers(40, 2), classes=names[:2], l2=names[2])
    return render_leaderboard(leaderboard([first, entrant(names[1], answers(40, 9), classes=names[:2], l2="")]))


def _evaluation(work: Path, names: Names) -> str:
    return evaluation_page.render(made_report(classes=names, path=names[0]))


def _data(work: Path, names: Names) -> str:
    """Return the page about a folder whose class folders and files have the names."""
    for number, name in enumerate(names):
        place = work / _file_name(name)
        place.mkdir(parents=True)
        for at in range(2):
            picture(number, 2 * number + at, 24).save(place / f"{at}{_file_name(name)[:80]}.png")
        (place / f"empty{_file_name(name)[:80]}.png").touch()
    return data_page.render(validate(work, ValidateDataParams()), made_on=date(2026, 1, 2))


def _file_name(name: str) -> str:
    kept = name.replace("/", "\N{DIVISION SLASH}").replace("\0", "").strip(". ")
    return kept.encode()[:100].decode("utf-8", "ignore") or "empty"
