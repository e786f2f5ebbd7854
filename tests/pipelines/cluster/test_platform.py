"""How a profile's settings appear in the compiled documents: a test per setting."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec, PlatformSpec
from typer.testing import CliRunner

import pipelines.cluster.platform
from graft.core.errors import ParamsError
from graft.params.params import Params
from pipelines.cli import app
from pipelines.cluster.compiled import write_pipeline
from pipelines.cluster.profile import Profile
from tests.support.compiled_graph import steps_of

IMAGES = {"data": "r/graft-python-data:1", "torch": "r/graft-python-torch:1"}


@pytest.fixture(autouse=True)
def _fixed_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipelines.cluster.platform, "step_digest", lambda step: f"code of {step}")


class Compiled:
    """The two documents of a compiled pipeline, parsed with the server's protocol buffers."""

    def __init__(self, path: Path, profile: Profile, **options: Any) -> None:
        write_pipeline(path, profile=profile, **options)
        self.text = path.read_text()
        spec, platform = yaml.safe_load_all(self.text)
        self.spec = json_format.ParseDict(spec, PipelineSpec())
        self.platform = json_format.ParseDict(platform, PlatformSpec()).platforms["kubernetes"]

    def container(self, step: str) -> dict[str, Any]:
        executors = json_format.MessageToDict(self.spec.deployment_spec)["executors"]
        container: dict[str, Any] = executors[f"exec-{step.replace('_', '-')}"]["container"]
        return container

    def environment(self, step: str) -> dict[str, str]:
        return {one["name"]: one["value"] for one in self.container(step)["env"]}

    def task(self, step: str) -> Any:
        return steps_of(self.spec)[step.replace("_", "-")]

    def pod(self, step: str) -> KubernetesExecutorConfig:
        config = self.platform.deployment_spec.executors[f"exec-{step.replace('_', '-')}"]
        return json_format.ParseDict(json_format.MessageToDict(config), KubernetesExecutorConfig())


Compile = Callable[..., Compiled]


@pytest.fixture
def compiled(tmp_path: Path) -> Compile:
    def make(defaults: dict[str, Any] | None = None, data_digest: str | None = None, **more: Any) -> Compiled:
        profile = Profile.model_validate({"images": IMAGES, "defaults": defaults or {}} | more)
        return Compiled(tmp_path / "p.yaml", profile, data_digest=data_digest)

    return make


def test_golden(tmp_path: Path, golden: Callable[[str, str], None]) -> None:
    golden("training-k8s.yaml", Compiled(tmp_path / "p.yaml", Profile.load("k8s"), data_digest="d1").text)


def test_the_graph_is_the_same_as_without_a_profile(compiled: Compile, tmp_path: Path) -> None:
    write_pipeline(tmp_path / "bare.yaml")
    bare = json_format.ParseDict(yaml.safe_load((tmp_path / "bare.yaml").read_text()), PipelineSpec())
    with_profile = compiled()
    assert with_profile.spec.pipeline_info.name == bare.pipeline_info.name
    assert with_profile.spec.root.input_definitions == bare.root.input_definitions
    handled = steps_of(with_profile.spec)
    assert set(handled) == set(bare.root.dag.tasks)
    for name, task in bare.root.dag.tasks.items():
        assert handled[name].inputs.artifacts == task.inputs.artifacts
        assert handled[name].dependent_tasks == task.dependent_tasks
        # Inside the exit handler a parameter of the pipeline is an input of the handler's own.
        assert {key: one.component_input_parameter for key, one in handled[name].inputs.parameters.items()} == {
            key: f"pipelinechannel--{one.component_input_parameter}" for key, one in task.inputs.parameters.items()
        }


def test_images(compiled: Compile) -> None:
    images = IMAGES | {"pull_policy": "Always", "pull_secrets": ["mine"]}
    found = compiled(images=images)
    assert found.container("get_data")["image"] == IMAGES["data"]
    assert found.container("validate_data")["image"] == IMAGES["data"]
    assert found.container("evaluate")["image"] == IMAGES["torch"]
    assert found.pod("evaluate").image_pull_policy == "Always"
    assert found.pod("evaluate").image_pull_secret[0].secret_name == "mine"


def test_digests_only() -> None:
    with pytest.raises(ValueError, match="expected name@sha256"):
        Profile.model_validate({"images": IMAGES | {"digests_only": True}})
    digests = {name: f"r/graft-python-{name}@sha256:{64 * 'a'}" for name in IMAGES}
    assert Profile.model_validate({"images": digests | {"digests_only": True}}).images.digests_only


def test_resources(compiled: Compile) -> None:
    resources = compiled({"cpu": "500m", "cpu_limit": "2", "memory": "1Gi", "memory_limit": "2Gi"}).container(
        "train_head"
    )["resources"]
    assert resources["resourceCpuRequest"] == "500m"
    assert resources["resourceCpuLimit"] == "2"
    assert resources["resourceMemoryRequest"] == "1Gi"
    assert resources["resourceMemoryLimit"] == "2Gi"


def test_gpu_of_one_step(compiled: Compile) -> None:
    found = compiled(steps={"fine_tune": {"gpu": {"type": "amd.com/gpu", "count": 2}}})
    accelerator = found.container("fine_tune")["resources"]["accelerator"]
    assert accelerator["resourceType"] == "amd.com/gpu"
    assert accelerator["resourceCount"] == "2"
    assert "resources" not in found.container("evaluate")


def test_node_selector_and_tolerations(compiled: Compile) -> None:
    found = compiled(
        {
            "node_selector": {"pool": "gpu"},
            "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoExecute", "seconds": 60}],
        }
    ).pod("evaluate")
    assert dict(found.node_selector.labels) == {"pool": "gpu"}
    toleration = found.tolerations[0]
    assert (toleration.key, toleration.operator, toleration.effect) == ("gpu", "Exists", "NoExecute")
    assert toleration.toleration_seconds == 60


def test_shared_memory_and_scratch(compiled: Compile) -> None:
    mounts = compiled({"shared_memory": "1Gi", "scratch": "5Gi"}).pod("fine_tune").empty_dir_mounts
    assert [(one.mount_path, one.medium, one.size_limit) for one in mounts] == [
        ("/dev/shm", "Memory", "1Gi"),
        ("/tmp", "", "5Gi"),
    ]


def test_mounts(compiled: Compile) -> None:
    found = compiled(steps={"get_data": {"mounts": [{"claim": "images", "path": "/data", "sub_path": "v1"}]}})
    mount = found.pod("get_data").pvc_mount[0]
    assert (mount.constant, mount.mount_path, mount.sub_path) == ("images", "/data", "v1")
    assert not found.pod("validate_data").pvc_mount


def test_environment(compiled: Compile) -> None:
    found = compiled(
        {
            "secret_env": {"s3": {"key": "AWS_ACCESS_KEY_ID"}},
            "config_env": {"settings": {"uri": "MLFLOW_TRACKING_URI"}},
            "env": {"PLAIN": "1"},
        }
    )
    pod = found.pod("evaluate")
    secret, config = pod.secret_as_env[0], pod.config_map_as_env[0]
    assert (secret.secret_name, secret.key_to_env[0].secret_key) == ("s3", "key")
    assert secret.key_to_env[0].env_var == "AWS_ACCESS_KEY_ID"
    assert (config.config_map_name, config.key_to_env[0].env_var) == ("settings", "MLFLOW_TRACKING_URI")
    assert found.environment("evaluate")["PLAIN"] == "1"


def test_steps_of_a_run_get_the_id_of_the_run(compiled: Compile) -> None:
    fields = {one.name: one.field_path for one in compiled().pod("evaluate").field_path_as_env}
    assert fields == {"GRAFT_PIPELINE_RUN": "metadata.labels['pipeline/runid']"}


def test_security(compiled: Compile) -> None:
    security = compiled({"security": {"user": 1000, "group": 1000}}).pod("evaluate").security_context
    assert (security.run_as_user, security.run_as_group, security.run_as_non_root) == (1000, 1000, True)


def test_retry_and_timeout(compiled: Compile) -> None:
    retry = {"times": 3, "wait": "10s", "factor": 3.0, "longest_wait": "100s"}
    found = compiled({"retry": retry, "timeout": 60}, steps={"register_model": {"retry": {"times": 0}}})
    policy = found.task("evaluate").retry_policy
    assert (policy.max_retry_count, policy.backoff_factor) == (3, 3.0)
    assert (policy.backoff_duration.seconds, policy.backoff_max_duration.seconds) == (10, 100)
    assert found.pod("evaluate").active_deadline_seconds == 60
    assert not found.task("register_model").HasField("retry_policy")


def test_labels_and_annotations(compiled: Compile) -> None:
    metadata = compiled({"labels": {"team": "vision"}, "annotations": {"note": "x"}}).pod("evaluate").pod_metadata
    assert dict(metadata.labels) == {"team": "vision"}
    assert dict(metadata.annotations) == {"note": "x"}


def test_deadline_and_time_to_live(compiled: Compile) -> None:
    config = compiled(keep_finished=10, keep_failed=20, deadline=30).platform.pipelineConfig
    found = json_format.MessageToDict(config)
    assert found == {"resourceTtlOnCompletion": 10, "resourceTtlOnFailure": 20, "activeDeadlineSeconds": 30}


def test_defaults_apply_to_settings_that_a_step_does_not_set(compiled: Compile) -> None:
    found = compiled({"cpu": "1", "memory": "1Gi"}, steps={"fine_tune": {"cpu": "4"}})
    assert found.container("fine_tune")["resources"]["resourceCpuRequest"] == "4"
    assert found.container("fine_tune")["resources"]["resourceMemoryRequest"] == "1Gi"


def test_workers_that_share_the_images_have_the_steps_settings(compiled: Compile) -> None:
    steps = {"extract_features": {"gpu": {}, "retry": {"times": 3}}}
    found = compiled({"cpu": "1"}, shards=7, steps=steps)
    (loop,) = [task for task in steps_of(found.spec).values() if task.HasField("parameter_iterator")]
    (worker,) = found.spec.components[loop.component_ref.name].dag.tasks.values()
    assert worker.retry_policy.max_retry_count == 3
    assert worker.caching_options.enable_cache
    assert found.container("extract_shard")["image"] == IMAGES["torch"]
    assert found.container("extract_shard")["resources"]["accelerator"]["resourceType"] == "nvidia.com/gpu"
    assert found.environment("extract_shard")["GRAFT_CODE_DIGEST"] == "code of extract_features"
    assert "accelerator" not in found.container("extract_features")["resources"]
    assert found.container("extract_features")["resources"]["resourceCpuRequest"] == "1"


def test_workspace(compiled: Compile) -> None:
    found = compiled(workspace={"size": "50Gi", "storage_class": "fast", "access_modes": ["ReadWriteMany"]})
    workspace = found.platform.pipelineConfig.workspace
    assert workspace.size == "50Gi"
    assert json_format.MessageToDict(workspace.kubernetes.pvc_spec_patch) == {
        "storageClassName": "fast",
        "accessModes": ["ReadWriteMany"],
    }
    plain = compiled(workspace={"size": "1Gi"}).platform.pipelineConfig.workspace
    assert json_format.MessageToDict(plain.kubernetes.pvc_spec_patch) == {}
    assert not compiled().platform.pipelineConfig.HasField("workspace")


def test_code_and_data_are_part_of_the_cache_key(compiled: Compile) -> None:
    found = compiled(data_digest="d1")
    for step in Params.model_fields:
        assert found.environment(step)["GRAFT_CODE_DIGEST"] == f"code of {step}"
        assert found.task(step).caching_options.enable_cache
        # KFP's own key would replace inputs and parameters.
        assert not found.task(step).caching_options.cache_key
    assert found.environment("get_data")["GRAFT_DATA_DIGEST"] == "d1"
    assert "GRAFT_DATA_DIGEST" not in found.environment("evaluate")


def test_data_of_an_unknown_version_is_fetched_again(compiled: Compile) -> None:
    found = compiled()
    assert not found.task("get_data").caching_options.enable_cache
    assert found.task("validate_data").caching_options.enable_cache
    assert not compiled(cache=False).task("validate_data").caching_options.enable_cache


def test_the_native_form_contains_the_same_pipeline(tmp_path: Path) -> None:
    profile = Profile.load("k8s")
    write_pipeline(tmp_path / "n.yaml", profile=profile, native=True, namespace="team", version="v2")
    pipeline, version = yaml.safe_load_all((tmp_path / "n.yaml").read_text())
    assert (pipeline["kind"], version["kind"]) == ("Pipeline", "PipelineVersion")
    assert pipeline["metadata"] == {"name": "graft-training", "namespace": "team"}
    assert version["metadata"] == {"name": "v2", "namespace": "team"}
    write_pipeline(tmp_path / "ir.yaml", profile=profile)
    spec, platform = yaml.safe_load_all((tmp_path / "ir.yaml").read_text())
    assert version["spec"]["pipelineSpec"] == spec
    assert version["spec"]["platformSpec"] == platform


def test_a_native_version_has_the_given_name(tmp_path: Path) -> None:
    out = tmp_path / "n.yaml"
    arguments = ["compile", "--native", "--profile", "k8s", "--version", "photos-2", "--out", str(out)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    _, version = yaml.safe_load_all(out.read_text())
    assert version["metadata"]["name"] == "photos-2"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("images: {data: a, torch: b}\ndefaults: {cpus: 1}", "unknown parameter 'defaults.cpus': did you mean 'cpu'?"),
        ("images: {data: a, torch: b}\ndefaults: {memory: 4 GB}", "defaults.memory='4 GB'"),
        ("images: {data: a}", "images.torch"),
        ("images: {data: a, torch: b}\nsteps: {train: {}}", "steps.train is not a step"),
        ("images: {data: a, torch: b}\ndefaults: {gpu: {count: 0}}", "defaults.gpu.count=0"),
        ("images: {data: a, torch: b}\nsteps: {evaluate: {cpus: 1}}", "unknown parameter 'steps.evaluate.cpus'"),
        ("images: {data: a, torch: b}\ndefaults: {mounts: [{claim: c}]}", "defaults.mounts.0.path"),
        ("images: {data: a, torch: b}\nworkspace: {size: 50 GB}", "workspace.size='50 GB'"),
        ("images: {data: a, torch: b}\nworkspace: {size: 1Gi, access_modes: [All]}", "workspace.access_modes.0='All'"),
    ],
)
def test_a_bad_profile_is_one_clear_line(tmp_path: Path, content: str, line: str) -> None:
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(ParamsError) as error:
        Profile.load(str(tmp_path / "mine.yaml"))
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(ParamsError, match="no profile 'aws'; known are k8s"):
        Profile.load("aws")
