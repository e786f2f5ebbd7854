"""The TrainJob made from a profile's trainer is valid in the published API, and the fine_tune task creates it."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig

from components.fine_tune.trainjob import JobRequest, build_train_job, describe_progress, outcome
from graft.core.errors import GraftError, ParamsError
from pipelines.cluster.compiled import write_pipeline
from pipelines.cluster.profile import NODE_SETTINGS, Profile
from pipelines.cluster.trainjob import manifest, order
from tests.support.trainer_server import unknown_to_the_api

IMAGES = {"data": "r/graft-python-data:1", "torch": "r/graft-python-torch:1"}
FOLDER = Path("/shared/job")
INPUTS = {"dataset": FOLDER / "dataset", "features": FOLDER / "features", "head": Path("/shared/head")}


def profile(trainer: dict[str, Any] | None = None, **more: Any) -> Profile:
    trainer = {"claim": "shared", "path": "/shared"} | (trainer or {})
    return Profile.model_validate({"images": IMAGES, "trainer": trainer} | more)


def job(trainer: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    found = profile(trainer, **more)
    assert found.trainer
    return manifest(found, found.trainer)


def pod(of: dict[str, Any]) -> dict[str, Any]:
    (patch,) = of["spec"]["runtimePatches"]
    (nodes,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    assert nodes["name"] == "node"
    template: dict[str, Any] = nodes["template"]["spec"]["template"]
    return template


def with_trainer(name: str = "k8s") -> Profile:
    """The example profile with all settings, and a trainer."""
    example = Profile.load(name)
    assert example.trainer is None, "off by default"
    return Profile.model_validate(
        example.model_dump() | {"trainer": {"claim": "shared", "path": "/shared", "nodes": 3}}
    )


def test_the_api_knows_every_field_of_the_job() -> None:
    example = with_trainer()
    assert example.trainer
    asked = build_train_job(
        order(example, example.trainer), "a-name", FOLDER, INPUTS, {"GRAFT_POD_NAME": "p", "GRAFT_POD_UID": "u"}
    )
    assert unknown_to_the_api(asked) is None
    assert unknown_to_the_api(asked | {"spec": asked["spec"] | {"nodes": 2}}) == "TrainJob.spec has no field nodes"


@pytest.mark.parametrize(
    ("trainer", "step", "processes"),
    [({}, {}, 1), ({}, {"gpu": {"count": 4}}, 4), ({"processes_per_node": 2}, {"gpu": {"count": 4}}, 2)],
)
def test_nodes_and_processes(trainer: dict[str, Any], step: dict[str, Any], processes: int) -> None:
    spec = job({"nodes": 5, "runtime": "mine", **trainer}, steps={"fine_tune": step})["spec"]
    assert spec["runtimeRef"] == {"name": "mine"}
    assert (spec["trainer"]["numNodes"], spec["trainer"]["numProcPerNode"]) == (5, processes)
    assert spec["trainer"]["image"] == IMAGES["torch"]


def test_each_node_has_the_resources_of_the_step() -> None:
    step = {
        "cpu": "4",
        "memory": "8Gi",
        "memory_limit": "16Gi",
        "gpu": {"type": "amd.com/gpu", "count": 2},
        "timeout": 60,
    }
    spec = job(defaults={"cpu_limit": "9"}, steps={"fine_tune": step})["spec"]
    assert spec["trainer"]["resourcesPerNode"] == {
        "requests": {"cpu": "4", "memory": "8Gi"},
        "limits": {"cpu": "9", "memory": "16Gi", "amd.com/gpu": "2"},
    }
    assert spec["activeDeadlineSeconds"] == 60
    bare = job()["spec"]
    assert "resourcesPerNode" not in bare["trainer"]
    assert "activeDeadlineSeconds" not in bare


def test_the_shared_volume_and_others_are_mounted() -> None:
    mounts = [{"claim": "weights", "path": "/weights", "sub_path": "v1"}]
    found = pod(job(defaults={"mounts": mounts, "shared_memory": "1Gi", "scratch": "5Gi"}))["spec"]
    assert [next(iter(set(volume) - {"name"})) for volume in found["volumes"]] == [
        *["persistentVolumeClaim"] * 2,
        *["emptyDir"] * 2,
    ]
    assert found["volumes"][0]["persistentVolumeClaim"] == {"claimName": "shared"}
    assert found["volumes"][2]["emptyDir"] == {"sizeLimit": "1Gi", "medium": "Memory"}
    (container,) = found["containers"]
    assert container["name"] == "node"
    assert [(one["mountPath"], one.get("subPath")) for one in container["volumeMounts"]] == [
        ("/shared", None),
        ("/weights", "v1"),
        ("/dev/shm", None),
        ("/tmp", None),
    ]


def test_secrets_are_referenced_by_name() -> None:
    settings = {
        "secret_env": {"s3": {"key": "AWS_ACCESS_KEY_ID"}},
        "config_env": {"settings": {"uri": "MLFLOW_TRACKING_URI"}},
        "env": {"PLAIN": "1", "GRAFT_CACHE": "/elsewhere"},
    }
    by_name = {one["name"]: one for one in job(defaults=settings)["spec"]["trainer"]["env"]}
    assert by_name["AWS_ACCESS_KEY_ID"]["valueFrom"] == {"secretKeyRef": {"name": "s3", "key": "key"}}
    assert by_name["MLFLOW_TRACKING_URI"]["valueFrom"] == {"configMapKeyRef": {"name": "settings", "key": "uri"}}
    assert by_name["PLAIN"]["value"] == "1"
    assert by_name["GRAFT_CACHE"]["value"] == "/elsewhere"
    assert {one["name"]: one.get("value") for one in job()["spec"]["trainer"]["env"]} == {
        "GRAFT_CACHE": "/shared/graft-cache"
    }


def test_node_selection_and_security_context() -> None:
    settings = {
        "node_selector": {"pool": "a"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "seconds": 5}],
        "security": {"user": 1000, "group": 1001},
        "labels": {"team": "vision"},
        "annotations": {"sidecar.istio.io/inject": "false"},
    }
    images = IMAGES | {"pull_secrets": ["mine"]}
    template = pod(job(images=images, defaults=settings))
    assert template["metadata"] == {"labels": settings["labels"], "annotations": settings["annotations"]}
    assert template["spec"]["nodeSelector"] == {"pool": "a"}
    assert template["spec"]["tolerations"] == [{"key": "gpu", "operator": "Exists", "tolerationSeconds": 5}]
    assert template["spec"]["securityContext"] == {"runAsUser": 1000, "runAsGroup": 1001, "runAsNonRoot": True}
    assert template["spec"]["imagePullSecrets"] == [{"name": "mine"}]


def some_order(**trainer: Any) -> JobRequest:
    found = profile(**trainer)
    assert found.trainer
    return order(found, found.trainer)


def test_a_run_adds_its_name_its_paths_and_its_owner() -> None:
    environment = {"GRAFT_POD_NAME": "p-1", "GRAFT_POD_UID": "u-1", "GRAFT_PIPELINE_RUN": "r", "HOME": "/root"}
    asked = build_train_job(some_order(), "a-name", FOLDER, INPUTS, environment)
    assert asked["metadata"]["name"] == "a-name"
    assert asked["metadata"]["ownerReferences"] == [{"apiVersion": "v1", "kind": "Pod", "name": "p-1", "uid": "u-1"}]
    trainer = asked["spec"]["trainer"]
    assert trainer["command"] == ["python", "-m", "torch.distributed.run", "-m", "components.fine_tune.step"]
    assert dict(zip(trainer["args"][::2], trainer["args"][1::2], strict=True)) == {
        "--dataset": "/shared/job/dataset",
        "--features": "/shared/job/features",
        "--head": "/shared/head",
        "--tuned": "/shared/job/tuned",
        "--metrics": "/shared/job/metrics.json",
        "--params": "/shared/job/params.yaml",
    }
    assert {one["name"]: one["value"] for one in trainer["env"]} == {
        "GRAFT_CACHE": "/shared/graft-cache",
        "GRAFT_PIPELINE_RUN": "r",
    }
    assert build_train_job(some_order(), "n", FOLDER, INPUTS, {})["metadata"]["ownerReferences"] == []


def test_tracking_settings_are_passed_on_without_a_password() -> None:
    environment = {"MLFLOW_RUN_ID": "m", "MLFLOW_TRACKING_URI": "https://mlflow.example", "MLFLOW_TRACKING_TOKEN": "t"}
    asked = build_train_job(some_order(), "n", FOLDER, INPUTS, environment)
    found = {one["name"]: one["value"] for one in asked["spec"]["trainer"]["env"]}
    assert found["MLFLOW_RUN_ID"] == "m"
    assert found["MLFLOW_TRACKING_URI"] == "https://mlflow.example"
    assert "MLFLOW_TRACKING_TOKEN" not in found
    with pytest.raises(GraftError, match="MLFLOW_TRACKING_URI holds a password; name it in the profile's secret_env"):
        build_train_job(some_order(), "n", FOLDER, INPUTS, {"MLFLOW_TRACKING_URI": "https://me:secret@mlflow.example"})
    named = some_order(defaults={"config_env": {"settings": {"uri": "MLFLOW_TRACKING_URI"}}})
    asked = build_train_job(named, "n", FOLDER, INPUTS, {"MLFLOW_TRACKING_URI": "https://me:secret@mlflow.example"})
    assert "secret@" not in json.dumps(asked)


def test_progress_and_outcome_of_a_job() -> None:
    assert outcome({}) is None
    assert describe_progress({}) == "waiting"
    active = {"name": "node", "active": 1, "ready": 1, "succeeded": 0, "failed": 0, "suspended": 0}
    suspended = {"type": "Suspended", "status": "False", "reason": "Resumed", "message": ""}
    assert outcome({"status": {"conditions": [suspended], "jobsStatus": [active]}}) is None
    assert (
        describe_progress({"status": {"conditions": [suspended], "jobsStatus": [active]}})
        == "node: active, node: ready"
    )
    failed = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "too long"}
    assert outcome({"status": {"conditions": [suspended, failed]}}) == ("Failed", "DeadlineExceeded: too long")


def test_the_task_creates_the_job_and_needs_few_resources_itself(tmp_path: Path) -> None:
    chosen = with_trainer()
    write_pipeline(tmp_path / "p.yaml", profile=chosen)
    spec, platform = yaml.safe_load_all((tmp_path / "p.yaml").read_text())
    container = spec["deploymentSpec"]["executors"]["exec-fine-tune"]["container"]
    environment = {one["name"]: one["value"] for one in container["env"]}
    asked = JobRequest.model_validate_json(environment["GRAFT_TRAIN_JOB"])
    assert chosen.trainer
    assert asked == order(chosen, chosen.trainer)
    resources = container["resources"]
    assert "accelerator" not in resources
    assert (resources["resourceCpuRequest"], resources["resourceMemoryRequest"]) == ("1", "2Gi")
    config = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-fine-tune"]
    settings = json_format.ParseDict(config, KubernetesExecutorConfig())
    assert {one.name: one.field_path for one in settings.field_path_as_env} == {
        "GRAFT_PIPELINE_RUN": "metadata.labels['pipeline/runid']",
        "GRAFT_POD_NAME": "metadata.name",
        "GRAFT_POD_UID": "metadata.uid",
    }
    assert [(one.constant, one.mount_path) for one in settings.pvc_mount] == [("shared", "/shared")]
    assert settings.active_deadline_seconds == 14400, "the task waits as long as the nodes may train"
    assert chosen.step(NODE_SETTINGS).gpu is not None
    others = [name for name in spec["deploymentSpec"]["executors"] if name != "exec-fine-tune"]
    for name in others:
        variables = spec["deploymentSpec"]["executors"][name]["container"]["env"]
        assert "GRAFT_TRAIN_JOB" not in {one["name"] for one in variables}


@pytest.mark.parametrize(
    ("trainer", "line"),
    [
        ("{claim: c}", "trainer.path"),
        ("{claim: c, path: shared}", "trainer.path='shared'"),
        ("{claim: c, path: /shared, nodes: 0}", "trainer.nodes=0"),
        ("{claim: c, path: /shared, keep: no}", "trainer.keep=False"),
        ("{claim: c, path: /shared, node: 2}", "unknown parameter 'trainer.node': did you mean 'nodes'?"),
    ],
)
def test_a_bad_trainer_is_one_clear_line(tmp_path: Path, trainer: str, line: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"images: {{data: a, torch: b}}\ntrainer: {trainer}\n")
    with pytest.raises(ParamsError) as error:
        Profile.load(str(tmp_path / "mine.yaml"))
    assert line in str(error.value)
