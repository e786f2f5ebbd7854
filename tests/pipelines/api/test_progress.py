import contextlib
import io
import sys
import types

import pytest

from pipelines.api.progress import Progress, default_report, following

LINES = [
    "[1/8] get_data",
    "      train_head: a line",
    "[1/8] get_data: done in 0.2 s",
    "[2/8] validate_data: done in 1 s",
]


def test_what_a_caller_prints_reaches_the_caller_s_output(capsys: pytest.CaptureFixture[str]) -> None:
    take = following(lambda one: print(one.line))
    swallowed = io.StringIO()
    with contextlib.redirect_stdout(swallowed):  # as it is while a pipeline runs
        take("[1/8] get_data")
    assert capsys.readouterr().out == "[1/8] get_data\n"
    assert swallowed.getvalue() == ""


def test_lines_tell_where_the_run_is() -> None:
    heard: list[Progress] = []
    take = following(heard.append)
    for line in LINES:
        take(line)
    assert [(one.done, one.step) for one in heard] == [
        (0, "get_data"),
        (0, "get_data"),
        (1, "get_data"),
        (2, "validate_data"),
    ]
    assert heard[1].line == "train_head: a line"
    assert heard[-1].fraction == 0.25


def test_lines_are_printed_outside_of_notebooks(capsys: pytest.CaptureFixture[str]) -> None:
    take = following(default_report())
    take(LINES[0])
    assert capsys.readouterr().err == f"{LINES[0]}\n"


def test_a_notebook_shows_one_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    handle = types.SimpleNamespace(update=lambda content: shown.append(content._repr_html_()))
    shell = types.SimpleNamespace(kernel=object())
    display = types.ModuleType("IPython.display")
    display.display = lambda content, display_id: handle  # type: ignore[attr-defined]
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: shell  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    take = following(default_report())
    take("[3/8] <b>: done in 1 s")
    take("[3/8] train_head: done in 1 s")
    assert shown[-1].startswith("<progress max='8' value='3'>")
    assert "<b>" not in shown[0]
