"""kill -9 at seeded moments of steps and of whole pipelines: their reruns write what an undisturbed run writes.

Steps run in processes forked from this one, which has imported their packages, so that a try takes seconds.
"""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from graft.core.checksums import SUMS_FILE
from graft.runs.mlflow_store import experiment_id, open_client
from tests.faults.conftest import Count
from tests.support.finished_run import FinishedRun
from tests.support.pictures import MakeImages

PIPELINES = int(os.environ.get("GRAFT_KILLED_PIPELINES", "0"))


def extract(run: FinishedRun, out: Path) -> None:
    from components.extract_features.step import extract_features

    params = {"backbone": "mobilenet_v3_small", "weights": "none", "image_size": 32, "batch_size": 16}
    extract_features.run(params=params, metrics=out / "metrics.json", dataset=run.dataset, features=out / "features")


def head(run: FinishedRun, out: Path) -> None:
    from components.train_head.step import train_head

    train_head.run(
        params={"head": "linear"}, metrics=out / "metrics.json", features=run.folder / "features", head=out / "head"
    )


STEPS: dict[str, Callable[[FinishedRun, Path], None]] = {"extract_features": extract, "train_head": head}


def forked(work: Callable[[], None], kill_after: float | None = None) -> tuple[int, float]:
    """Do some work in a child process; return its exit code and how long it took."""
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.setsid()
        try:
            work()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    if kill_after is not None:
        time.sleep(kill_after)
        try:
            os.killpg(child, signal.SIGKILL)
        except ProcessLookupError:
            os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), time.monotonic() - began


def contents(folder: Path) -> dict[str, str]:
    """Return the digest of every output file; numbers are without times."""
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.name not in ("metrics.json", "error.txt"):
            found[file.relative_to(folder).as_posix()] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def temporaries(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.suffix in (".tmp", ".old", ".journal", ".commit")]


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("store_is", ["warm", "cold"])
def test_a_step_killed_at_any_moment(
    finished_run: FinishedRun, tmp_path: Path, count: Count, scale: int, name: str, store_is: str,
    monkeypatch: pytest.MonkeyPatch, empty_store: Path,
) -> None:  # fmt: skip
    generator, tried, survived = random.Random(f"{name} {store_is}"), 0, 0
    monkeypatch.setenv("GRAFT_CACHE", "off")

    def settle(place: Path) -> None:
        place.mkdir()
        if store_is == "warm":
            shutil.copy(empty_store, place / "mlflow.db")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlflow.db")

    settle(tmp_path / "plain")
    code, seconds = forked(lambda: STEPS[name](finished_run, tmp_path / "plain" / "out"))
    assert code == 0
    wanted = contents(tmp_path / "plain" / "out")
    assert any(file.endswith(SUMS_FILE) for file in wanted)
    for number in range((2 if store_is == "warm" else 1) * scale):
        place = tmp_path / str(number)
        settle(place)
        work = partial(STEPS[name], finished_run, place / "out")
        forked(work, generator.uniform(0.02, 1.05) * seconds)
        code, _ = forked(work)
        client = open_client()
        runs = client.search_runs([experiment_id(client, f"sqlite:///{place}/mlflow.db")])
        running = [run.data.tags for run in runs if run.info.status == "RUNNING"]
        same, left = contents(place / "out") == wanted, temporaries(place)
        tried += 1
        survived += code == 0 and same and not running and not left
        print(f"{name} on a {store_is} store: exit {code}, the same {same}, running {running}, left {left}")
        shutil.rmtree(place)
    count(f"{name} killed, on a {store_is} store", tried, survived)


QUICK = (
    "extract_features.image_size=32 train_head.reuse_depth=last fine_tune.enabled=false evaluate.bootstrap=100 "
    "evaluate.random_init=false evaluate.explain=false evaluate.learning_curve=false "
    "register_model.max_milliseconds=1e6"
)


@pytest.mark.skipif(not PIPELINES, reason="make soak: each try takes half a minute")
def test_a_pipeline_killed_at_any_moment(
    root: Path, tmp_path: Path, image_folder: MakeImages, count: Count, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one store: all reruns end, no run stays RUNNING, no version is there twice, no temporary stays."""
    data = image_folder({"train": {"cat": 12, "dog": 12}, "test": {"cat": 12, "dog": 12}})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    generator, tried, survived = random.Random(0), 0, 0

    def start(out: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "pipelines.cli", "run", "--data", str(data), "--out", str(out), "--params"]
        return subprocess.Popen(
            [*command, QUICK], cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "cache-plain"))
    began = time.monotonic()
    assert start(tmp_path / "plain").wait() == 0
    seconds = time.monotonic() - began
    wanted = contents(tmp_path / "plain" / "model")
    for number in range(PIPELINES):
        monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / f"cache{number}"))
        run = start(tmp_path / str(number))
        time.sleep(generator.uniform(0.02, 1.0) * seconds)
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        code = start(tmp_path / str(number)).wait()
        client = open_client()
        runs = client.search_runs([experiment_id(client, os.environ["MLFLOW_TRACKING_URI"])])
        versions = client.search_model_versions("name = 'graft'")
        keys = [version.tags.get("pipeline.run_id") for version in versions]
        tried += 1
        survived += (
            code == 0
            and contents(tmp_path / str(number) / "model") == wanted
            and not [one for one in runs if one.info.status == "RUNNING"]
            and len(set(keys)) == len(keys)
            and not temporaries(tmp_path / str(number))
        )
        shutil.rmtree(tmp_path / str(number))
    count("a whole pipeline killed", tried, survived)
