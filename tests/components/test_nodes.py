"""Step fine_tune hands its work to a TrainJob, waits, and tells why it failed: against an API on loopback."""

import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow.tracking import MlflowClient

from components.fine_tune.component import fine_tune as component
from components.fine_tune.nodes import run_on_nodes
from components.kubernetes import CustomObjects
from graft.core.atomic import read_json
from graft.core.errors import GraftError
from graft.models.bundle import ModelBundle
from pipelines.cluster.profile import Profile
from pipelines.cluster.trainjob import order
from tests.support.tiny import tuning_inputs
from tests.support.trainer_server import Cluster, serving

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with serving(tmp_path / "cluster") as found, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found.master_port = str(free.getsockname()[1])
        free.close()
        found.environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(found.port))
        yield found
        assert found.faults == []


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    folder = tmp_path / "volume"
    folder.mkdir()
    return folder


@pytest.fixture
def ordered(volume: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set what a profile with a trainer sets."""

    def set_order(**trainer: Any) -> None:
        images = {"data": "r/graft-python-data:1", "torch": "r/graft-python-torch:1"}
        settings = {"config_env": {"settings": {"uri": "MLFLOW_TRACKING_URI"}}}
        asked = {"claim": "shared", "path": str(volume)} | trainer
        profile = Profile.model_validate({"images": images, "defaults": settings, "trainer": asked})
        assert profile.trainer
        monkeypatch.setenv("GRAFT_TRAIN_JOB", order(profile, profile.trainer).model_dump_json())

    return set_order


@pytest.fixture
def run(tmp_path: Path, cluster: Cluster) -> Callable[[], None]:
    """Run the step on nodes, with inputs of no meaning."""
    for name in ("dataset", "features", "head"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)

    def call() -> None:
        paths = {name: tmp_path / name for name in ("dataset", "features", "head", "tuned")}
        run_on_nodes(params={"seed": 1}, metrics=tmp_path / "m.json", account=cluster.account, pause=0.02, **paths)

    return call


def when_created(cluster: Cluster, do: Callable[[str, Path], None]) -> threading.Thread:
    """Do something, as the nodes would, once there is a job."""

    def wait() -> None:
        while not cluster.seen:
            time.sleep(0.01)
        job = cluster.seen[0]
        arguments = job["spec"]["trainer"]["args"]
        do(job["metadata"]["name"], Path(arguments[arguments.index("--tuned") + 1]).parent)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow
@pytest.mark.usefixtures("store")
def test_two_nodes_train_as_one_process_does(
    tmp_path: Path,
    volume: Path,
    cluster: Cluster,
    ordered: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from kfp.dsl import Dataset, Metrics, Model

    tuning_inputs(tmp_path)
    ordered(nodes=2)
    in_this_pod = partial(run_on_nodes, account=cluster.account, pause=0.2)
    monkeypatch.setattr("components.fine_tune.nodes.run_on_nodes", in_this_pod)
    monkeypatch.setenv("GRAFT_PIPELINE_RUN", "one-run")
    cluster.values["settings", "uri"] = os.environ["MLFLOW_TRACKING_URI"]
    shutil.copytree(tmp_path / "head", volume / "head")  # an input that is on the volume already
    params = yaml.safe_load((tmp_path / "params.yaml").read_text())["fine_tune"]
    component.python_func(
        dataset=Dataset(uri=str(tmp_path / "dataset")),
        features=Dataset(uri=str(tmp_path / "features")),
        head=Model(uri=str(volume / "head")),
        tuned=Model(uri=str(tmp_path / "tuned")),
        metrics=Metrics(uri=str(tmp_path / "m.json")),
        params=params,
    )
    (job,) = cluster.seen
    arguments = job["spec"]["trainer"]["args"]
    assert arguments[arguments.index("--head") + 1] == str(volume / "head")
    assert len(cluster.printed) == 2
    metrics = read_json(tmp_path / "m.json")
    assert metrics["stages"][0]["kept"]
    assert ModelBundle.load(tmp_path / "tuned").spec.trained_groups == ("features.1",)
    assert cluster.deleted == [job["metadata"]["name"]]
    assert {path.name for path in volume.iterdir()} == {"head", "graft-cache"}
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert sorted(run.data.tags.get("graft.step", "") for run in runs) == ["", "fine_tune"]


def test_outputs_are_brought_home(
    tmp_path: Path, cluster: Cluster, volume: Path, ordered: Callable[..., None], run: Callable[[], None]
) -> None:
    cluster.runs_jobs = False
    ordered(keep="always")
    found: dict[str, str] = {}

    def train(name: str, folder: Path) -> None:
        found.update({port: (folder / port / "file").read_text() for port in ("dataset", "features", "head")})
        found["params"] = (folder / "params.yaml").read_text()
        (folder / "tuned").mkdir()
        (folder / "tuned" / "weights").write_text("trained")
        (folder / "metrics.json").write_text('{"depth": "x"}')
        cluster.away = 3  # and so is the API now and then
        cluster.finish(name, "Complete", "AllJobsCompleted", "")

    when_created(cluster, train)
    run()
    assert (found["dataset"], found["head"]) == ("dataset", "head")
    assert yaml.safe_load(found["params"]) == {"fine_tune": {"seed": 1}}
    assert (tmp_path / "tuned" / "weights").read_text() == "trained"
    assert read_json(tmp_path / "m.json") == {"depth": "x"}
    assert not list(volume.iterdir())
    assert not cluster.deleted, "it was to be kept"


@pytest.mark.parametrize(
    ("keep", "left", "line"),
    [
        (
            "never",
            "fine_tune: process 2 of 2: 7.png: cannot be read\n",
            "fine_tune: process 2 of 2: 7.png: cannot be read",
        ),
        (
            "failed",
            "",
            r"fine_tune: TrainJob graft-fine-tune-\w+ failed \(FailedJobs: no node\); kubectl logs -n team -l",
        ),
    ],
)
def test_a_failure_is_told_with_its_cause(
    tmp_path: Path,
    cluster: Cluster,
    volume: Path,
    ordered: Callable[..., None],
    run: Callable[[], None],
    keep: str,
    left: str,
    line: str,
) -> None:
    cluster.runs_jobs = False
    ordered(keep=keep)

    def fail(name: str, folder: Path) -> None:
        if left:
            (folder / "error.txt").write_text(left)
        cluster.finish(name, "Failed", "FailedJobs", "no node")

    when_created(cluster, fail)
    with pytest.raises(SystemExit, match=line) as error:
        run()
    assert (tmp_path / "error.txt").read_text() == f"{error.value}\n"
    assert not (tmp_path / "tuned").exists()
    assert not (tmp_path / "m.json").exists()
    assert not list(volume.iterdir())
    assert bool(cluster.deleted) == (keep == "never")


def test_a_job_that_somebody_deletes_is_told(
    cluster: Cluster, ordered: Callable[..., None], run: Callable[[], None]
) -> None:
    cluster.runs_jobs = False
    ordered()
    when_created(cluster, lambda name, folder: cluster.jobs.clear())
    with pytest.raises(SystemExit, match=r"TrainJob graft-fine-tune-\w+ was deleted before it finished"):
        run()


def test_a_task_that_is_stopped_stops_the_job(
    cluster: Cluster, volume: Path, ordered: Callable[..., None], run: Callable[[], None]
) -> None:
    cluster.runs_jobs = False
    ordered()
    stopping = when_created(cluster, lambda name, folder: os.kill(os.getpid(), signal.SIGTERM))
    late: list[int] = []

    def before(number: int, frame: object) -> None:  # a signal that comes late must not end the tests
        late.append(number)

    original = signal.signal(signal.SIGTERM, before)
    try:
        with pytest.raises(SystemExit, match="fine_tune: stopped by SIGTERM"):
            run()
        assert signal.getsignal(signal.SIGTERM) == before
    finally:
        stopping.join(timeout=20)
        signal.signal(signal.SIGTERM, original)
    assert late == []
    assert cluster.deleted == [cluster.seen[0]["metadata"]["name"]]
    assert not list(volume.iterdir())


def test_what_kubernetes_refuses_is_one_clear_line(
    cluster: Cluster, volume: Path, ordered: Callable[..., None], run: Callable[[], None]
) -> None:
    ordered()
    (cluster.account / "token").write_text("another")
    with pytest.raises(
        SystemExit, match=r"fine_tune: Kubernetes refused POST https://.*trainjobs \(401 Unauthorized\)"
    ):
        run()
    assert not list(volume.iterdir())


def test_outside_of_a_pod_it_is_one_clear_line(
    tmp_path: Path, ordered: Callable[..., None], run: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    ordered()
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    with pytest.raises(SystemExit, match="fine_tune: no Kubernetes here"):
        run()


def test_a_certificate_that_the_account_does_not_know_is_refused(
    tmp_path: Path, cluster: Cluster, ordered: Callable[..., None]
) -> None:
    with serving(tmp_path / "another") as other:
        shutil.copy(other.account / "ca.crt", cluster.account / "ca.crt")
    with pytest.raises(GraftError, match=r"Kubernetes does not answer at https://127\.0\.0\.1:\d+/.* \(SSLError\)"):
        CustomObjects("trainer.kubeflow.org/v1alpha1", "trainjobs", cluster.account).get("x")
