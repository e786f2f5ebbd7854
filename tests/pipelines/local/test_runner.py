"""The local runner, on pipelines of two tiny steps run by KFP's own subprocess runner."""

import itertools
import tempfile
from pathlib import Path

import pytest
from kfp import dsl
from kfp.local import graph_utils

from graft.core.errors import GraftError
from pipelines.local.progress import PlainLines
from pipelines.local.runner import in_order, run_locally, task_folders

STEPS = ["make_number", "use_number"]


@dsl.component(base_image="python", packages_to_install=[], install_kfp_package=False)
def make_number(number: dsl.Output[dsl.Artifact], metrics: dsl.Output[dsl.Metrics], params: dict):  # type: ignore[no-untyped-def, type-arg]
    from pathlib import Path

    print("half way")
    print("make_number: all the way")
    Path(number.path).write_text(str(params["value"]))


@dsl.component(base_image="python", packages_to_install=[], install_kfp_package=False)
def use_number(number: dsl.Input[dsl.Artifact], metrics: dsl.Output[dsl.Metrics], params: dict):  # type: ignore[no-untyped-def, type-arg]
    from pathlib import Path

    value = float(Path(number.path).read_text())
    if value < 0:
        Path(metrics.path).with_name("error.txt").write_text(f"use_number: {value:.0f} is below zero\n")
        raise SystemExit(f"use_number: {value:.0f} is below zero")
    if value == 0:
        raise ZeroDivisionError("nothing to divide")
    Path(metrics.path).write_text("{}")


@dsl.pipeline(name="tiny")
def tiny(make_number_params: dict, use_number_params: dict):  # type: ignore[no-untyped-def, type-arg]
    made = make_number(params=make_number_params)
    use_number(number=made.outputs["number"], params=use_number_params)


def run(tmp_path: Path, value: object, shown: list[str]) -> dict[str, Path]:
    arguments = {"make_number_params": {"value": value, "text": "{["}, "use_number_params": {}}
    return run_locally(tiny, arguments, STEPS, tmp_path / "steps", tmp_path / "run.log", PlainLines(shown.append))


def without_seconds(lines: list[str]) -> list[str]:
    return [line.split(" in ")[0] if " in " in line else line for line in lines]


def test_start_end_and_output_of_each_step_are_shown(tmp_path: Path) -> None:
    shown: list[str] = []
    folders = run(tmp_path, 3, shown)
    assert without_seconds(shown) == [
        "[1/2] make_number",
        "      half way",
        "      make_number: all the way",
        "[1/2] make_number: done",
        "[2/2] use_number",
        "[2/2] use_number: done",
    ]
    assert (folders["use_number"] / "metrics").read_text() == "{}"
    assert "KFP Executor" in (tmp_path / "run.log").read_text()


def test_nothing_stays_in_the_folder_for_temporaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporaries").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporaries"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    run(tmp_path, 3, [])
    assert list((tmp_path / "temporaries").iterdir()) == []


def test_independent_tasks_run_in_the_order_of_the_steps() -> None:
    steps = ["make_number", "show_number", "use_number"]
    upstream = {"make-number": [], "show-number": ["make-number"], "use-number": ["make-number"]}
    own = graph_utils.topological_sort
    with in_order(steps):
        for tasks in itertools.permutations(upstream):
            stack = graph_utils.topological_sort({task: upstream[task] for task in tasks})
            assert stack[::-1] == ["make-number", "show-number", "use-number"]
        assert graph_utils.topological_sort({"use-number": ["other"], "other": []}) == ["use-number", "other"]
    assert graph_utils.topological_sort is own


def test_a_failure_is_reported_with_the_steps_own_line(tmp_path: Path) -> None:
    shown: list[str] = []
    with pytest.raises(GraftError) as error:
        run(tmp_path, -2, shown)
    assert str(error.value) == "use_number: -2 is below zero"
    # The run ends with that line, so it is not shown twice.
    assert without_seconds(shown)[-2:] == ["[2/2] use_number", "[2/2] use_number: failed"]
    assert (task_folders(tmp_path / "steps", STEPS)["make_number"] / "number").exists()


def test_a_failure_without_an_error_file_is_reported_with_the_last_line(tmp_path: Path) -> None:
    with pytest.raises(GraftError, match=r"use_number: ZeroDivisionError: nothing to divide \(the full output"):
        run(tmp_path, 0, [])


@pytest.mark.parametrize("where", ["root", "value"])
def test_a_path_that_the_runner_would_change_is_refused(tmp_path: Path, where: str) -> None:
    folder = tmp_path / ("python3.11" if where == "root" else "plain")
    value = "lib/python3/data" if where == "value" else 1
    with pytest.raises(GraftError, match="'python3' in it; choose or link another path"):
        run(folder, value, [])
    assert not folder.exists()
