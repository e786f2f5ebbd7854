"""kill -9 at seeded moments of steps and of whole pipelines: their reruns write what an undisturbed run writes.

Steps run in processes forked from this one, which has imported their packages, so that a try takes seconds.
"""

import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from graft.core.checksums import SUMS_FILE
from graft.runs.live_log import STEP_TAG
from graft.runs.mlflow_store import experiment_id, open_client, tracking_uri
from graft.serving.registry import Registry
from tests.faults.conftest import Count
from tests.faults.kills import forked, left
from tests.support.finished_run import NAME, FinishedRun
from tests.support.pictures import MakeImages

STEP_TRIES = int(os.environ.get("GRAFT_KILLED_STEPS", "10"))
PIPELINES = int(os.environ.get("GRAFT_KILLED_PIPELINES", "0"))
SEED = os.environ.get("GRAFT_KILL_SEED", "0")
"""Of the moments at which pipelines are killed."""
TRY_SECONDS = 120
"""How long one may take on a busy machine; the time that every test has is for a few."""
OF_ONE_RUN = ("milliseconds", "run_id", "tracking_uri", "smoke_difference", "tags")
"""Times and ids in what register_model writes, and what the version was tagged with: they too."""


NOT_COMPARED = ("metrics.json", "error.txt", "evaluation/SHA256SUMS")
TIMES = re.compile(rb'"milliseconds": [\d.e-]+|[\d.,]+ ms')


def extract(run: FinishedRun, out: Path) -> None:
    from components.extract_features.step import extract_features

    params = {"backbone": "mobilenet_v3_small", "weights": "none", "image_size": 32, "batch_size": 16}
    extract_features.run(params=params, metrics=out / "metrics.json", dataset=run.dataset, features=out / "features")


def head(run: FinishedRun, out: Path) -> None:
    from components.train_head.step import train_head

    train_head.run(
        params={"head": "linear"}, metrics=out / "metrics.json", features=run.folder / "features", head=out / "head"
    )


def evaluation(run: FinishedRun, out: Path) -> None:
    from components.evaluate.step import evaluate

    quick = {"bootstrap": 100, "random_init": False, "learning_curve": False, "explain": False}
    evaluate.run(
        params=quick, metrics=out / "metrics.json", dataset=run.dataset, features=run.folder / "features",
        head=run.model, model=run.model, evaluation=out / "evaluation",
    )  # fmt: skip


def registration(run: FinishedRun, out: Path) -> None:
    from components.register_model.step import register_model

    register_model.run(
        params={"name": NAME, "max_milliseconds": 1e6}, metrics=out / "metrics.json", dataset=run.dataset,
        model=run.model, evaluation=run.evaluation, registration=out / "registration",
    )  # fmt: skip


STEPS: dict[str, Callable[[FinishedRun, Path], None]] = {
    "extract_features": extract, "train_head": head, "evaluate": evaluation, "register_model": registration,
}  # fmt: skip


def contents(folder: Path) -> dict[str, str]:
    """Return the digest of every output file; times and ids apart."""
    found = {}
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if name == "registration/registration.json":
            values = json.loads(file.read_text(encoding="utf-8"))
            found[name] = json.dumps({key: value for key, value in values.items() if key not in OF_ONE_RUN})
        elif file.is_file() and not name.startswith("registration/") and name not in NOT_COMPARED:
            found[name] = hashlib.sha256(TIMES.sub(b"", file.read_bytes())).hexdigest()
    return found


def finished(name: str) -> int:
    """Return how many runs of a step came to their end."""
    client = open_client()
    runs = client.search_runs([experiment_id(client, tracking_uri())], "attributes.status = 'FINISHED'")
    return sum(run.data.tags.get(STEP_TAG) == name for run in runs)


@pytest.mark.timeout(max(900, TRY_SECONDS * STEP_TRIES))
@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("store_is", ["warm", "cold"])
def test_a_step_killed_at_any_moment(
    finished_run: FinishedRun, tmp_path: Path, count: Count, name: str, store_is: str,
    monkeypatch: pytest.MonkeyPatch, empty_store: Path,
) -> None:  # fmt: skip
    generator, tried, survived = random.Random(f"{name} {store_is}"), 0, 0
    monkeypatch.setenv("GRAFT_CACHE", "off")
    log = tmp_path / "log"

    def settle(place: Path) -> None:
        (place / "tmp").mkdir(parents=True)
        if store_is == "warm":
            shutil.copy(empty_store, place / "mlflow.db")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlflow.db")
        monkeypatch.setenv("TMPDIR", str(place / "tmp"))
        monkeypatch.setattr(tempfile, "tempdir", None)

    settle(tmp_path / "plain")
    code, seconds = forked(lambda: STEPS[name](finished_run, tmp_path / "plain" / "out"), log)
    assert code == 0, log.read_text(encoding="utf-8")
    wanted = contents(tmp_path / "plain" / "out")
    assert wanted
    assert name in ("evaluate", "register_model") or any(file.endswith(SUMS_FILE) for file in wanted)
    for number in range(max(1, round(STEP_TRIES * (0.2 if store_is == "warm" else 0.06)))):
        place = tmp_path / str(number)
        settle(place)
        work = partial(STEPS[name], finished_run, place / "out")
        moment = generator.uniform(0.02, 1.0) * seconds
        killed, _ = forked(work, log, moment)
        if killed == 0:  # it was faster than the undisturbed run
            continue
        code, _ = forked(work, log)
        remains = left(place)
        if name == "register_model":
            # A run that had come to its end has its own version, and its rerun is another registration.
            versions = [(one.number, one.aliases) for one in Registry.open(NAME).versions()]
            champions = sum("champion" in aliases for _, aliases in versions)
            if (len(versions), champions) != (finished(name), 1):
                remains.append(f"versions {versions} of {finished(name)} finished runs")
        same = contents(place / "out") == wanted or finished(name) > 1
        tried += 1
        survived += code == 0 and same and not remains
        print(f"{name} on a {store_is} store: {killed} after {moment:.2f} s; then {code}, same {same}, left {remains}")
        shutil.rmtree(place)
    if not tried:
        pytest.skip("every run ended before its moment")
    count(f"{name} killed, on a {store_is} store", tried, survived)


@pytest.mark.timeout(max(900, TRY_SECONDS * PIPELINES))
@pytest.mark.skipif(not PIPELINES, reason="make soak: each try takes ten seconds")
def test_a_pipeline_killed_at_any_moment(root: Path, tmp_path: Path, image_folder: MakeImages, count: Count) -> None:
    """Reruns end, with the same results; no run stays RUNNING, no version is there twice, no temporary stays."""
    data = image_folder({"train": {"cat": 18, "dog": 18}, "test": {"cat": 12, "dog": 12}}, size=32)
    cold = PIPELINES // 5
    command = [sys.executable, "-m", "tests.faults.killed_pipelines", str(data), str(tmp_path / "runs")]
    (tmp_path / "runs").mkdir()
    with subprocess.Popen(
        [*command, str(PIPELINES - cold), str(cold), SEED], cwd=root, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        found = []
        for line in process.stdout:
            print(line, end="")
            found.append(json.loads(line))
    assert process.returncode == 0
    for kind in ("warm", "cold"):
        # A run may end before its moment; that it was killed is what counts.
        tries = [one for one in found if one["try"].startswith(kind) and (one["killed"] or one["faults"])]
        count(f"a whole pipeline killed, on a {kind} store", len(tries), sum(not one["faults"] for one in tries))
