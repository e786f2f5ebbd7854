"""The real KFP client with a test server that implements v2beta1 and validates every request by the published API."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec
from typer.testing import CliRunner

from graft.core.errors import GraftError
from graft.params.params import Params
from pipelines.cli import app
from pipelines.cluster.client import Cluster
from pipelines.cluster.compiled import write_pipeline
from pipelines.cluster.profile import Profile
from tests.support.compiled_graph import steps_of
from tests.support.kubeflow_server import Kubeflow, serving


@pytest.fixture
def kubeflow() -> Iterator[Kubeflow]:
    with serving() as server:
        yield server
        assert server.faults == []


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("package") / "training.yaml"
    write_pipeline(file, Params(), profile=Profile.load("k8s"), data_digest="d1")
    return file


def task(name: str, state: str, **more: Any) -> dict[str, Any]:
    return {"display_name": name, "state": state, **more}


def test_a_run_is_submitted_with_all_its_settings(kubeflow: Kubeflow, package: Path) -> None:
    run = Cluster(kubeflow.url).submit(
        package,
        experiment="digits",
        name="first",
        parameters={"train_head": {"folds": 3}},
        pipeline_root="s3://bucket/path",
        service_account="runner",
        description="d1",
    )
    kept = kubeflow.runs[run]
    assert kubeflow.experiments[kept["experiment_id"]]["display_name"] == "digits"
    assert kept["display_name"] == "first"
    assert kept["service_account"] == "runner"
    assert kept["runtime_config"] == {"parameters": {"train_head": {"folds": 3}}, "pipeline_root": "s3://bucket/path"}
    assert set(kept["pipeline_spec"]) == {"pipeline_spec", "platform_spec"}


def test_an_experiment_is_created_once(kubeflow: Kubeflow, package: Path) -> None:
    cluster = Cluster(kubeflow.url)
    for name in ("a", "b"):
        cluster.submit(package, experiment="digits", name=name)
    assert len(kubeflow.experiments) == 1
    assert len(kubeflow.runs) == 2


@pytest.mark.parametrize(("asked", "cached"), [([], True), (["--cache"], True), (["--no-cache"], False)])
def test_caching_is_as_the_profile_or_the_command_says(kubeflow: Kubeflow, asked: list[str], cached: bool) -> None:
    submitted = command(kubeflow, "submit", "--data", "/data/photos", *asked)
    assert submitted.exit_code == 0, submitted.output
    spec = json_format.ParseDict(
        kubeflow.runs[submitted.stdout.strip()]["pipeline_spec"]["pipeline_spec"], PipelineSpec()
    )
    found = {name: task.caching_options.enable_cache for name, task in steps_of(spec).items()}
    assert not found.pop("get-data")  # data of no known version
    del found["condition-2"]
    assert set(found.values()) == {cached}


def test_the_token_is_sent_and_a_wrong_one_is_one_clear_line(package: Path) -> None:
    with serving(token="secret") as kubeflow:
        Cluster(kubeflow.url, token="secret").submit(package, experiment="e", name="n")
        assert set(kubeflow.tokens) == {"Bearer secret"}
        with pytest.raises(GraftError, match=r"connect refused \(401 who are you\?\)"):
            Cluster(kubeflow.url, token="guess")


def test_a_schedule_replaces_one_of_the_same_name(kubeflow: Kubeflow, package: Path) -> None:
    cluster = Cluster(kubeflow.url)
    cluster.schedule(package, experiment="e", name="nightly", cron="0 0 3 * * *")
    second = cluster.schedule(package, experiment="e", name="nightly", cron="0 0 4 * * *")
    cluster.schedule(package, experiment="e", name="weekly", cron="0 0 4 * * 0")
    by_name = {one["display_name"]: one for one in kubeflow.schedules.values()}
    assert set(by_name) == {"nightly", "weekly"}
    assert by_name["nightly"]["recurring_run_id"] == second
    assert by_name["nightly"]["trigger"] == {"cron_schedule": {"cron": "0 0 4 * * *"}}
    assert by_name["nightly"]["mode"] == "ENABLE"
    assert by_name["nightly"]["no_catchup"] is True


def test_a_schedule_of_the_same_name_is_found_among_many(kubeflow: Kubeflow, package: Path) -> None:
    cluster = Cluster(kubeflow.url)
    first = cluster.schedule(package, experiment="e", name="weekly", cron="0 0 3 * * *")
    for number in range(150):
        kubeflow.schedules[f"x{number}"] = kubeflow.schedules[first] | {"recurring_run_id": f"x{number}"}
    earlier = cluster.schedule(package, experiment="e", name="nightly", cron="0 0 3 * * *")
    cluster.schedule(package, experiment="another", name="nightly", cron="0 0 3 * * *")
    cluster.schedule(package, experiment="e", name="nightly", cron="0 0 4 * * *")
    nightly = [one for one in kubeflow.schedules.values() if one["display_name"] == "nightly"]
    assert earlier not in kubeflow.schedules
    assert [one["trigger"]["cron_schedule"]["cron"] for one in nightly] == ["0 0 3 * * *", "0 0 4 * * *"]


def test_a_cron_of_five_fields_is_one_clear_line(kubeflow: Kubeflow, package: Path) -> None:
    with pytest.raises(GraftError, match="expected six fields, seconds first"):
        Cluster(kubeflow.url).schedule(package, experiment="e", name="n", cron="0 3 * * *")


def test_the_status_lists_every_step(kubeflow: Kubeflow, package: Path) -> None:
    cluster = Cluster(kubeflow.url)
    run = cluster.submit(package, experiment="e", name="n")
    assert cluster.status(run).state == "PENDING"
    kubeflow.runs[run] |= {
        "state": "FAILED",
        "run_details": {
            "task_details": [
                task("get-data", "SUCCEEDED"),
                task("validate-data", "FAILED", error={"code": 1, "message": "two images are broken"}),
            ]
        },
    }
    found = cluster.status(run)
    assert found.state == "FAILED"
    assert [(task.name, task.state, task.error) for task in found.tasks] == [
        ("get-data", "SUCCEEDED", None),
        ("validate-data", "FAILED", "two images are broken"),
    ]


def test_logs_of_a_step_come_from_its_pods(kubeflow: Kubeflow, package: Path) -> None:
    cluster = Cluster(kubeflow.url)
    run = cluster.submit(package, experiment="e", name="n")
    with pytest.raises(GraftError, match="step 'get_data' has no log yet"):
        list(cluster.logs(run, "get_data"))
    details = [task("get-data", "RUNNING", child_tasks=[{"pod_name": "pod-1"}, {"pod_name": "pod-2"}])]
    kubeflow.runs[run]["run_details"] = {"task_details": details}
    kubeflow.logs = {(run, "pod-1"): "one\n", (run, "pod-2"): "two\n"}
    assert list(cluster.logs(run, "get_data")) == ["one\n", "two\n"]


def test_a_run_can_be_cancelled(kubeflow: Kubeflow, package: Path) -> None:
    cluster = Cluster(kubeflow.url)
    run = cluster.submit(package, experiment="e", name="n")
    cluster.cancel(run)
    assert cluster.status(run).state == "CANCELING"


def test_a_data_version_is_found_among_many_runs(kubeflow: Kubeflow, package: Path) -> None:
    cluster = Cluster(kubeflow.url)
    first = cluster.submit(package, experiment="e", name="n", description="d1")
    kept = kubeflow.runs[first]
    for number in range(150):
        kubeflow.runs[f"x{number}"] = kept | {"run_id": f"x{number}", "description": "another"}
    last = cluster.submit(package, experiment="e", name="n", description="d2")
    assert cluster.find_run("e", "d1") == first
    assert cluster.find_run("e", "d2") == last
    assert cluster.find_run("e", "d3") is None
    kubeflow.runs[last]["state"] = "FAILED"
    assert cluster.find_run("e", "d2") is None


def test_an_unknown_run_is_one_clear_line(kubeflow: Kubeflow) -> None:
    with pytest.raises(GraftError, match=r"status refused \(404 'no-such-run' not found\)"):
        Cluster(kubeflow.url).status("no-such-run")


def test_a_server_that_does_not_answer_is_one_clear_line() -> None:
    with pytest.raises(GraftError, match=r"Kubeflow at http://127\.0\.0\.1:9 does not answer"):
        Cluster("http://127.0.0.1:9")


def command(kubeflow: Kubeflow, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--host", kubeflow.url])


TYPED = ("source", "backbone", "budget", "model_name")


@pytest.mark.parametrize("chosen", [["--data", "photos"], ["--params", "get_data.source=./photos"], []])
@pytest.mark.parametrize("asked", [["submit"], ["schedule", "--cron", "0 0 3 * * *"]])
def test_images_that_only_this_machine_has_are_refused(kubeflow: Kubeflow, asked: list[str], chosen: list[str]) -> None:
    before = len(kubeflow.runs)
    done = command(kubeflow, *asked, *chosen)
    assert done.exit_code == 1
    assert "is a path on this machine, which a cluster does not see; give the absolute path" in done.output
    assert len(kubeflow.runs) == before


def test_compile_leaves_images_that_nobody_chose_to_who_starts_the_run(tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "p.yaml")]
    asked = CliRunner().invoke(app, ["compile", *out])
    assert asked.exit_code == 0
    assert "set source when a run starts" in asked.output
    chosen = CliRunner().invoke(app, ["compile", "--data", "photos", *out])
    assert chosen.exit_code == 1
    assert "photos: is a path on this machine" in chosen.output


def test_the_commands(kubeflow: Kubeflow) -> None:
    images = ["--data", "/data/photos"]
    submitted = command(kubeflow, "submit", *images, "--params", "train_head.folds=4", "--name", "n", "--no-cache")
    assert submitted.exit_code == 0, submitted.output
    run = submitted.stdout.strip()
    spec = kubeflow.runs[run]["pipeline_spec"]["pipeline_spec"]
    assert spec["root"]["inputDefinitions"]["parameters"]["train_head"]["defaultValue"]["folds"] == 4
    typed = spec["root"]["inputDefinitions"]["parameters"]
    assert all(typed[name]["parameterType"] == "STRING" and typed[name]["description"] for name in TYPED)
    shown = command(kubeflow, "status", run)
    assert shown.stdout == "n: PENDING\n"
    assert command(kubeflow, "cancel", run).stdout == f"{run}: stop requested\n"
    missing = command(kubeflow, "status", "none")
    assert missing.exit_code == 1
    assert len(missing.output.strip().splitlines()) == 1
