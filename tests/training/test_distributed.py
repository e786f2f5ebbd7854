"""Two processes train like one, and only the first logs and writes; if one fails, all report its cause."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import safetensors.torch
import torch
import yaml
from mlflow.tracking import MlflowClient

from components.fine_tune.step import fine_tune
from graft.core.atomic import read_json
from graft.core.errors import ParamsError
from graft.models.bundle import ModelBundle
from graft.params.fine_tune import FineTuneParams
from graft.runs.run_log import SilentLog
from graft.training.trainer import Training
from tests.support.tiny import tuning_inputs
from tests.support.two_processes import TRAININGS

ROOT = Path(__file__).resolve().parents[2]
TRAINER = ROOT / "tests" / "support" / "two_processes.py"
LONGEST = 240
"""Timeout of a test in seconds; on an idle machine each takes a few."""


def environment(**more: str) -> dict[str, str]:
    paths = str(ROOT)
    return os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **more}


def free_port() -> str:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return str(listening.getsockname()[1])


@contextmanager
def two(*command: str) -> Iterator[list["subprocess.Popen[str]"]]:
    """Start a command as two processes that can reach each other."""
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2"}
    with ExitStack() as stack:
        processes = []
        for rank in range(2):
            process = subprocess.Popen(
                [sys.executable, *command],
                env=environment(**meeting, RANK=str(rank)),
                stderr=subprocess.PIPE,
                text=True,
            )
            processes.append(stack.enter_context(process))
            stack.callback(process.kill)
        yield processes


def torchrun(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *command],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> list[Mapping[str, torch.Tensor]]:
    """Return the results of two processes that trained together."""
    folder = tmp_path_factory.mktemp("two")
    with two(str(TRAINER), str(folder)) as processes:
        for process in processes:
            _, errors = process.communicate(timeout=LONGEST)
            assert process.returncode == 0, errors
    return [safetensors.torch.load_file(folder / f"{rank}.safetensors") for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAININGS)
def test_two_processes_get_the_result_of_one(of_two: list[Mapping[str, torch.Tensor]], name: str) -> None:
    for key, alone in TRAININGS[name]().items():
        first, second = (found[f"{name}/{key}"] for found in of_two)
        assert torch.equal(first, second), "all processes hold the same"
        torch.testing.assert_close(first, alone, rtol=1e-4, atol=2e-5)


def test_fewer_images_in_a_step_than_processes_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from graft.runs.processes import Process
    from tests.support.tiny_training import SETTINGS, STAGE, labelled, untrained

    monkeypatch.setattr("graft.training.distributed.this_process", lambda: Process(0, 4))
    with pytest.raises(ParamsError, match=r"fine_tune.batch_size=3: 4 processes share the images of a step, but"):
        Training(untrained(), STAGE, labelled(32, 0), replace(SETTINGS, batch_size=3))


WAITING = """
import os, signal
from graft.training.distributed import joined, summed
from graft.core.errors import error_text
from graft.runs.processes import current_process, raise_first_failure

process = current_process()
try:
    with joined(process) as peers, raise_first_failure(peers):
        summed(1.0)
        if process.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        summed(1.0)
except Exception as error:
    raise SystemExit(error_text(error))
"""


def test_a_process_ends_at_once_if_the_one_it_waits_for_is_killed() -> None:
    with two("-c", WAITING) as (waiting, killed):
        killed.communicate(timeout=LONGEST)
        started = time.monotonic()
        _, errors = waiting.communicate(timeout=LONGEST)
    assert time.monotonic() - started < 30, "it must not wait for the timeout"
    assert (waiting.returncode, killed.returncode) == (1, -signal.SIGKILL)
    assert "another process was killed, ran out of memory or does not answer" in errors.strip().splitlines()[-1]


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder with the inputs of step fine_tune, and parameters for it."""
    return tuning_inputs(tmp_path)


STEP = ("-m", "components.fine_tune.step", "--dataset", "dataset", "--features", "features", "--head", "head")


@pytest.mark.slow
def test_the_step_under_torchrun(inputs: Path, store: Path) -> None:
    done = torchrun(inputs, *STEP, "--tuned", "model", "--metrics", "m.json")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("fine_tune: stage")]
    assert lines
    assert len(lines) == len(set(lines)), "only one process prints"
    assert sorted(path.name for path in inputs.iterdir() if not path.name.startswith((".", "graft-cache"))) == [
        "dataset",
        "features",
        "head",
        "m.json",
        "mlruns",
        "model",
        "params.yaml",
    ]
    client = MlflowClient(f"sqlite:///{store}")
    (run,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert (run.info.run_name, run.info.status) == ("fine_tune", "FINISHED")

    params = FineTuneParams.model_validate(yaml.safe_load((inputs / "params.yaml").read_text())["fine_tune"])
    alone = fine_tune(inputs / "dataset", inputs / "features", inputs / "head", inputs / "alone", params, SilentLog())
    metrics = read_json(inputs / "m.json")
    assert metrics["stages"][0]["kept"], "otherwise there is less to compare"
    for of_two, of_one in zip(metrics["stages"], alone["stages"], strict=True):
        assert of_two["train_loss"] == pytest.approx(of_one["train_loss"], rel=1e-4)
        assert of_two["held_out_loss"] == pytest.approx(of_one["held_out_loss"], rel=1e-4)
        assert (of_two["kept"], of_two["best_epoch"]) == (of_one["kept"], of_one["best_epoch"])
    assert metrics["trained_groups"] == list(alone["trained_groups"])
    two, one = (ModelBundle.load(inputs / name) for name in ("model", "alone"))
    assert (two.abstention is None) == (one.abstention is None)
    for name, tensor in one.classifier.state_dict().items():
        torch.testing.assert_close(two.classifier.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_failure_of_any_process_ends_the_step_with_its_cause(inputs: Path, store: Path) -> None:
    (inputs / "fail.py").write_text(
        "from components.fine_tune.step import fine_tune\n"
        "from graft.core.errors import DataError\n"
        "from graft.training.distributed import this_process\n"
        "work = fine_tune.function\n"
        "def broken(**arguments):\n"
        "    if this_process().rank == 1:\n"
        "        raise DataError('7.png: cannot be read')\n"
        "    return work(**arguments)\n"
        "fine_tune.function = broken\n"
        "fine_tune.main()\n"
    )
    (inputs / "model").mkdir()
    (inputs / "model" / "old").write_text("of an earlier run")
    done = torchrun(inputs, "fail.py", *STEP[2:], "--tuned", "model", "--metrics", "m.json")
    assert done.returncode == 1
    line = "fine_tune: process 2 of 2: 7.png: cannot be read"
    assert done.stderr.splitlines().count(line) == 1
    assert (inputs / "error.txt").read_text() == f"{line}\n"
    assert [path.name for path in (inputs / "model").iterdir()] == ["old"]
    assert not (inputs / "m.json").exists()
    client = MlflowClient(f"sqlite:///{store}")
    for run in client.search_runs([experiment.experiment_id for experiment in client.search_experiments()]):
        assert run.info.status == "FAILED"
