import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from graft.core import commit
from graft.core.errors import DataError
from graft.params.train_head import TrainHeadParams
from graft.runs import tracking
from graft.runs.processes import PeerFailedError, Peers, PeersLostError, Process
from graft.runs.run_log import Log, SilentLog
from graft.runs.step import In, Ins, Metrics, Out, Step, distributed_step, failure_exit, step


@step
def double(number: In, result: Out, note: Out, params: TrainHeadParams, log: Log) -> Metrics:
    """Double a number as often as there are folds."""
    value = int(number.read_text())
    note.write_text(f"from {value}")
    if value < 0:
        raise DataError(f"number={value}: expected zero or more", keep=("note",))
    if value == 13:
        raise RuntimeError("unlucky\nnumber")
    result.mkdir()
    (result / "value.txt").write_text(str(value * params.folds))
    log.metric("value", value)
    return {"value": value}


@step
def add(result: Out, params: TrainHeadParams, log: Log, numbers: Ins = ()) -> Metrics:
    """Add any number of numbers."""
    total = sum(int(number.read_text()) for number in numbers)
    result.write_text(str(total))
    return {"total": total}


@step
def copy(note: In, copied: Out, params: TrainHeadParams, log: Log) -> Metrics:
    """Read what another step has written."""
    copied.write_text(note.read_text())
    return {}


def places(folder: Path, number: int) -> dict[str, Path]:
    (folder / "number").write_text(str(number))
    return {name: folder / name for name in ("number", "result", "note")}


def test_the_signature_defines_the_step() -> None:
    assert isinstance(double, Step)
    assert double.name == "double"
    assert double.inputs == ["number"]
    assert double.outputs == ["result", "note"]
    assert double.section is TrainHeadParams


def test_any_number_of_inputs_of_one_kind(tmp_path: Path) -> None:
    assert (add.inputs, add.input_lists, add.outputs) == ([], ["numbers"], ["result"])
    for number in (1, 2, 3):
        (tmp_path / str(number)).write_text(str(number))
    for numbers, total in (([], 0), ([str(tmp_path / "3")], 3), ([tmp_path / "1", tmp_path / "2"], 3)):
        metrics = add.run(params={}, metrics=tmp_path / "m.json", result=tmp_path / "result", numbers=numbers)
        assert metrics["total"] == total
    with pytest.raises(SystemExit, match=r"input 'numbers' not found at .*/4; run the step that makes it first"):
        add.run(params={}, metrics=tmp_path / "m.json", result=tmp_path / "result", numbers=[tmp_path / "4"])


def test_calling_it_calls_the_plain_function(tmp_path: Path) -> None:
    paths = places(tmp_path, 2)
    assert double(**paths, params=TrainHeadParams(), log=SilentLog()) == {"value": 2}
    assert (tmp_path / "result" / "value.txt").read_text() == "10"


def test_running_it_writes_outputs_and_metrics(tmp_path: Path) -> None:
    # KFP passes whole numbers as floats.
    metrics = double.run(params={"folds": 3.0}, metrics=tmp_path / "m.json", **places(tmp_path, 2))
    written = json.loads((tmp_path / "m.json").read_text())
    assert written == metrics
    assert written["value"] == 2
    assert written["seconds"] > 0
    assert (tmp_path / "result" / "value.txt").read_text() == "6"


@pytest.mark.parametrize(
    ("number", "params", "line"),
    [
        (-1, {}, "double: number=-1: expected zero or more"),
        (13, {}, "double: RuntimeError: unlucky"),
        (1, {"fold": 3}, "double: double: unknown parameter 'fold': did you mean 'folds'?"),
        (1, {"folds": "x"}, "double: double: folds='x': input should be a valid integer"),
    ],
)
def test_a_failure_is_one_line_for_the_caller_and_in_a_file(
    tmp_path: Path, number: int, params: dict[str, Any], line: str
) -> None:
    with pytest.raises(SystemExit) as error:
        double.run(params=params, metrics=tmp_path / "out" / "m.json", **places(tmp_path, number))
    assert str(error.value).startswith(line)
    assert (tmp_path / "out" / "error.txt").read_text().startswith(line)
    assert not (tmp_path / "result").exists()
    assert not (tmp_path / "out" / "m.json").exists()


def test_a_failing_step_keeps_what_explains_the_failure_and_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        double.run(params={}, metrics=tmp_path / "m.json", **places(tmp_path, -1))
    assert (tmp_path / "note").read_text() == "from -1"
    assert not (tmp_path / "result").exists()


def test_a_failure_leaves_the_outputs_of_an_earlier_run(tmp_path: Path) -> None:
    double.run(params={}, metrics=tmp_path / "m.json", **places(tmp_path, 2))
    with pytest.raises(SystemExit):
        double.run(params={}, metrics=tmp_path / "m.json", **places(tmp_path, 13))
    assert (tmp_path / "result" / "value.txt").read_text() == "10"
    assert (tmp_path / "note").read_text() == "from 2"


def test_a_success_clears_the_error_of_an_earlier_run(tmp_path: Path) -> None:
    (tmp_path / "error.txt").write_text("old")
    double.run(params={}, metrics=tmp_path / "m.json", **places(tmp_path, 2))
    assert not (tmp_path / "error.txt").exists()


def test_a_missing_input_is_one_clear_line(tmp_path: Path) -> None:
    paths = {name: tmp_path / name for name in ("number", "result", "note")}
    with pytest.raises(SystemExit, match=r"input 'number' not found at .*; run the step that makes it first"):
        double.run(params={}, metrics=tmp_path / "m.json", **paths)


@pytest.mark.parametrize(("number", "ended"), [(2, "FINISHED"), (-1, "FAILED")])
def test_outputs_are_in_place_before_the_run_ends(
    tmp_path: Path, number: int, ended: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, seen = places(tmp_path, number), []

    @contextmanager
    def recorded(*_: object, **__: object) -> Iterator[Log]:
        try:
            yield SilentLog()
        except BaseException:
            seen.append(("FAILED", paths["note"].exists(), paths["result"].exists()))
            raise
        seen.append(("FINISHED", paths["note"].exists(), paths["result"].exists()))

    monkeypatch.setattr(tracking, "step_run", recorded)
    with suppress(SystemExit):
        double.run(params={}, metrics=tmp_path / "m.json", **paths)
    assert seen == [(ended, True, ended == "FINISHED")], "of a failure, what explains it is in place"


def test_a_step_killed_between_its_outputs_has_written_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    double.run(params={}, metrics=tmp_path / "m.json", **places(tmp_path, 2))
    paths = places(tmp_path, 4)
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(commit, "rename_into_place", lambda temporary, path: (temporary.replace(path), os._exit(9)))
        shutil.rmtree(tmp_path / "result")  # so that the first rename, of this folder, is done
        double.run(params={}, metrics=tmp_path / "m.json", **paths)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert (tmp_path / "note").read_text() == "from 2", "killed after the first output"
    copy.run(params={}, metrics=tmp_path / "copied.json", note=paths["note"], copied=tmp_path / "copied")
    assert (tmp_path / "copied").read_text() == "from 4"
    assert json.loads((tmp_path / "m.json").read_text())["value"] == 4


def test_outputs_that_cannot_be_written_are_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    paths = places(tmp_path, 2) | {"result": tmp_path / "file" / "result"}
    with pytest.raises(SystemExit, match="cannot write here"):
        double.run(params={}, metrics=tmp_path / "file" / "m.json", **paths)


def test_a_step_for_one_process_refuses_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit, match="double: 2 processes were started, but this step runs as one"):
        double.run(params={}, metrics=tmp_path / "m.json", **places(tmp_path, 2))


class TogetherError(Exception):
    """What made this process fail."""


@contextmanager
def peers_that_report(line: str, process: Process) -> Iterator[Peers]:
    class Others:
        def report_failure(self, error: Exception) -> Exception:
            return PeerFailedError(line) if isinstance(error, TogetherError) else error

    assert process == Process(int(os.environ["RANK"]), 2)
    yield Others()


@pytest.fixture(params=[0, 1])
def rank(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("RANK", str(request.param))
    monkeypatch.setenv("WORLD_SIZE", "2")
    return int(request.param)


def test_only_the_first_process_writes_and_logs(tmp_path: Path, rank: int) -> None:
    together = distributed_step(partial(peers_that_report, ""))(double.function)
    together.run(params={}, metrics=tmp_path / "m.json", **places(tmp_path, 2))
    assert (tmp_path / "result").exists() == (tmp_path / "m.json").exists() == (rank == 0)
    assert not list(tmp_path.glob(".*.tmp"))


def test_each_process_reports_its_own_failure(tmp_path: Path, rank: int) -> None:
    together = distributed_step(partial(peers_that_report, ""))(double.function)
    with pytest.raises(SystemExit) as error:
        together.run(params={}, metrics=tmp_path / "m.json", **places(tmp_path, -1))
    line = ("double: ", "double: process 2 of 2: ")[rank] + "number=-1: expected zero or more"
    assert str(error.value) == line
    assert (tmp_path / "error.txt").read_text() == f"{line}\n"
    assert (tmp_path / "note").exists() == (rank == 0)


def test_the_first_process_records_a_peers_failure_and_none_repeats_it(tmp_path: Path, rank: int) -> None:
    def double(number: In, result: Out, note: Out, params: TrainHeadParams, log: Log) -> Metrics:
        raise TogetherError

    together = distributed_step(partial(peers_that_report, "process 3 of 3: the disk is full"))(double)
    with pytest.raises(SystemExit) as error:
        together.run(params={}, metrics=tmp_path / "m.json", **places(tmp_path, 2))
    assert error.value.code == 1
    written = (tmp_path / "error.txt").read_text() if (tmp_path / "error.txt").exists() else None
    assert written == ("double: process 3 of 3: the disk is full\n" if rank == 0 else None)


def test_a_process_without_a_cause_keeps_the_recorded_cause(tmp_path: Path) -> None:
    file = tmp_path / "error.txt"
    assert str(failure_exit("double", PeersLostError("left alone"), file)) == "double: left alone"
    assert file.read_text() == "double: left alone\n"
    file.write_text("double: the disk is full\n")
    failure_exit("double", PeersLostError("left alone"), file)
    assert file.read_text() == "double: the disk is full\n"


COMMAND = """
from pathlib import Path
from graft.runs.step import In, Out, Metrics, step
from graft.runs import tracking
from graft.params.train_head import TrainHeadParams
from graft.runs.run_log import Log

@step
def train_head(number: In, result: Out, params: TrainHeadParams, log: Log) -> Metrics:
    "Say the number of folds."
    result.write_text(f"{number.read_text()} {params.folds}")
    return {}

if __name__ == "__main__":
    train_head.main()
"""


def run_command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "command.py").write_text(COMMAND)
    (folder / "params.yaml").write_text("train_head: {folds: 7}\n")
    (folder / "in.txt").write_text("3")
    return subprocess.run(
        [sys.executable, "command.py", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def test_the_command_line_is_made_from_the_signature(tmp_path: Path) -> None:
    done = run_command(tmp_path, "--number", "in.txt", "--result", "out.txt", "--metrics", "m.json")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.txt").read_text() == "3 7"
    assert "seconds" in json.loads((tmp_path / "m.json").read_text())


def test_the_command_line_reports_errors(tmp_path: Path) -> None:
    missing = run_command(tmp_path, "--number", "in.txt")
    assert missing.returncode == 2
    assert "--result" in missing.stderr
    no_file = run_command(
        tmp_path, "--number", "in.txt", "--result", "o", "--metrics", "m.json", "--params", "other.yaml"
    )
    assert no_file.returncode == 1
    assert no_file.stderr.strip() == ("train_head: other.yaml: no such file; it holds the parameters of every step")
