"""Whole runs that are ended from outside: no process stays, and no record says that it still runs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from graft.runs.mlflow_store import experiment_id, open_client, tracking_uri
from tests.support.pictures import MakeImages

pytestmark = pytest.mark.slow
QUICK = "extract_features.image_size=32 train_head.reuse_depth=last fine_tune.enabled=false evaluate.bootstrap=100"


def start(root: Path, data: Path, out: Path) -> subprocess.Popen[str]:
    """Start a run, and return when its third step has begun."""
    command = [sys.executable, "-m", "pipelines.cli", "run", "--data", str(data), "--out", str(out), "--params", QUICK]
    own = os.environ | {"PYTHONPATH": str(root)}
    run = subprocess.Popen(command, cwd=out.parent, env=own, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert run.stderr
    for line in run.stderr:
        if line.startswith("[3/9]"):
            time.sleep(0.5)
            return run
    raise AssertionError("the run ended before its third step")


def statuses() -> list[str]:
    client = open_client()
    runs = client.search_runs([experiment_id(client, tracking_uri())])
    return sorted(run.info.status for run in runs)


def test_sigterm_ends_every_process_and_every_record(
    root: Path, tmp_path: Path, image_folder: MakeImages, store: Path
) -> None:
    run = start(root, image_folder({"train": {"cat": 12, "dog": 12}}), tmp_path / "out")
    children = psutil.Process(run.pid).children(recursive=True)
    assert children
    run.send_signal(signal.SIGTERM)
    assert run.wait(60) == 143
    assert run.stderr
    run.stderr.close()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    assert "RUNNING" not in statuses()
    assert "KILLED" in statuses()
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_what_kill_9_leaves_is_cleared_by_the_next_run(
    root: Path, tmp_path: Path, image_folder: MakeImages, store: Path
) -> None:
    data, out = image_folder({"train": {"cat": 12, "dog": 12}}), tmp_path / "out"
    run = start(root, data, out)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait(60)
    assert run.stderr
    run.stderr.close()
    assert "RUNNING" in statuses()
    command = [sys.executable, "-m", "pipelines.cli", "run", "--data", str(data), "--out", str(out), "--params", QUICK]
    subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(root)}, check=True, capture_output=True)
    assert "RUNNING" not in statuses()
    assert (out / "summary.json").is_file()


def test_a_stopped_run_goes_on_at_its_step(root: Path, tmp_path: Path, image_folder: MakeImages, store: Path) -> None:
    data = image_folder({"train": {"cat": 12, "dog": 12}})
    run = start(root, data, tmp_path / "out")
    run.send_signal(signal.SIGTERM)
    run.wait(60)
    assert run.stderr
    run.stderr.close()
    command = [sys.executable, "-m", "graft", "resume"]
    own = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=tmp_path, env=own, check=True, capture_output=True, text=True)
    for step in ("[1/9] get_data", "[2/9] validate_data"):
        assert f"{step}: nothing has changed, earlier results reused" in done.stderr
    assert "[3/9] extract_features: done in" in done.stderr
    assert (tmp_path / "out" / "summary.json").is_file()
