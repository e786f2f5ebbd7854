"""A profile: all settings of a cluster that are not part of the pipeline, in one typed file.

`pipelines/cluster/profiles/k8s.yaml` shows every setting.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from graft.core.errors import ParamsError
from graft.params.checking import validate_values
from graft.params.overrides import read_yaml
from graft.params.params import Params

FOLDER = Path(__file__).with_name("profiles")
SHARDED_STEP, SHARD_TASK = "extract_features", "extract_shard"
"""The step whose images several workers may share, and the name of a worker's task."""
TRAINER_STEP, NODE_SETTINGS = "fine_tune", "fine_tune_nodes"
"""The step that may train on several nodes, and the name under which `Profile.step` returns the nodes' settings."""
_SIZES = ("cpu", "cpu_limit", "memory", "memory_limit", "gpu", "node_selector", "tolerations", "shared_memory")
UPDATE_STEPS = ("update_model", "register_update")
"""Steps of the update pipeline alone."""
MODEL_STEPS = ("batch_predict", "adapt_registered")
"""The steps of the pipelines `batch` and `adapt`, which take a registered model; no other pipeline has them."""
CLOSING_STEPS = ("serve_champion", "report_run")
"""Tasks that only a cluster has: after the gate, and at the end of every run."""
Cpu = Annotated[str, Field(pattern=r"^\d*\.?\d+m?$")]
Memory = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(Ki|Mi|Gi|Ti|K|M|G|T)?$")]
Seconds = Annotated[int, Field(gt=0)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Images(_Settings):
    """References of the container images; use digests (`name@sha256:...`) in production."""

    data: str
    torch: str
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    digests_only: bool = Field(False, description="reject an image reference without a digest")

    @model_validator(mode="after")
    def _by_digest(self) -> "Images":
        for name in ("data", "torch"):
            reference = getattr(self, name)
            if self.digests_only and "@sha256:" not in reference:
                raise ValueError(f"{name} is {reference!r}, expected name@sha256:... because digests_only is true")
        return self


class Gpu(_Settings):
    """Accelerators of a step."""

    type: str = "nvidia.com/gpu"
    count: int = Field(1, ge=1)


class Toleration(_Settings):
    """A node taint that a step's pod tolerates."""

    key: str | None = None
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str | None = None
    effect: Literal["NoExecute", "NoSchedule", "PreferNoSchedule"] | None = None
    seconds: int | None = None


class Retry(_Settings):
    """How often and after what delay a failed step is retried."""

    times: int = Field(ge=0)
    wait: str = "30s"
    factor: float = 2.0
    longest_wait: str = "600s"


class SecurityContext(_Settings):
    """User and group that a step runs as."""

    user: int | None = None
    group: int | None = None
    non_root: bool = True


class Mount(_Settings):
    """An existing volume claim."""

    claim: str
    path: str
    sub_path: str = ""


class Trainer(_Settings):
    """Several nodes that run the training of fine_tune together, as a TrainJob of Kubeflow Trainer."""

    nodes: int = Field(2, ge=1)
    processes_per_node: int | None = Field(None, ge=1, description="none: one per GPU, or one")
    runtime: str = Field("torch-distributed", description="name of a ClusterTrainingRuntime")
    claim: str = Field(description="volume claim that many nodes may write to: inputs, outputs and the cache")
    path: str = Field(pattern=r"^/.+[^/]$", description="mount path of the claim in the task and the nodes")
    keep: Literal["never", "failed", "always"] = Field(
        "failed",
        description="which finished TrainJobs are kept, with pods and logs, until the task's pod is deleted",
    )


class Serve(_Settings):
    """The InferenceService of KServe that answers with the champion."""

    apply: bool = Field(False, description="create or update the service; false: only write its manifest")
    namespace: str | None = Field(None, description="of the service; null: the run's")
    service_account: str | None = Field(None, description="whose credentials fetch the model; null: the default")
    min_replicas: int = Field(1, ge=0, description="0: it may scale to zero")
    max_replicas: int = Field(3, ge=1)
    cpu: Cpu = "1"
    memory: Memory = "2Gi"


class Workspace(_Settings):
    """A volume that is created for each run and deleted with it; KFP mounts it into the steps that request it."""

    size: Memory
    storage_class: str | None = Field(None, description="of Kubernetes; null: the cluster's default")
    access_modes: tuple[Literal["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"], ...] = ()


class Step(_Settings):
    """The settings of one step; what is not set comes from `defaults`."""

    cpu: Cpu | None = None
    cpu_limit: Cpu | None = None
    memory: Memory | None = None
    memory_limit: Memory | None = None
    gpu: Gpu | None = None
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    shared_memory: Memory | None = Field(None, description="size of /dev/shm, which torch data loaders need")
    scratch: Memory | None = Field(None, description="size of /tmp, for a read-only root file system")
    mounts: tuple[Mount, ...] = ()
    secret_env: dict[str, dict[str, str]] = Field({}, description="secret -> {key in it: environment variable}")
    config_env: dict[str, dict[str, str]] = Field({}, description="config map -> {key in it: environment variable}")
    env: dict[str, str] = {}
    security: SecurityContext | None = None
    retry: Retry | None = None
    timeout: Seconds | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}

    def with_defaults(self, defaults: "Step") -> "Step":
        """Return these settings, with unset ones taken from `defaults`."""
        own = {name: getattr(self, name) for name in self.model_fields_set}
        return defaults.model_copy(update=own)


class Profile(_Settings):
    """All settings of a cluster."""

    images: Images
    cache: bool = True
    defaults: Step = Step()
    steps: dict[str, Step] = {}
    shards: int = Field(1, ge=1, description="workers that share the images in extract_features")
    trainer: Trainer | None = Field(
        None, description="nodes that share the training of fine_tune; none: one pod trains"
    )
    serve: Serve | None = Field(None, description="service of a new champion; none: the run ends with the registry")
    workspace: Workspace | None = None
    keep_finished: Seconds | None = Field(None, description="seconds a finished workflow stays on the cluster")
    keep_failed: Seconds | None = None
    deadline: Seconds | None = Field(None, description="seconds after which the whole run is stopped")

    @model_validator(mode="after")
    def _known_steps(self) -> "Profile":
        known = [*Params.model_fields, *MODEL_STEPS, *UPDATE_STEPS, *CLOSING_STEPS]
        unknown = sorted(set(self.steps) - set(known))
        if unknown:
            raise ValueError(f"steps.{unknown[0]} is not a step; known are {', '.join(known)}")
        return self

    @classmethod
    def load(cls, name: str) -> "Profile":
        """Read a profile by its name (in `pipelines/cluster/profiles`) or by the path of its file.

        Raises:
            ParamsError: if it does not exist, or has an unknown setting or a value of the wrong type.
        """
        file = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
        if not file.is_file():
            known = ", ".join(sorted(path.stem for path in FOLDER.glob("*.yaml")))
            raise ParamsError(f"no profile {name!r}; known are {known}, or give the path of a .yaml file")
        return validate_values(cls, read_yaml(file), where=str(file))

    def step(self, name: str) -> Step:
        """Return the settings of one step, completed by the defaults.

        If workers share the images, they get the settings of extract_features; joining their parts needs less.
        If nodes share the training, they get the resources of fine_tune; the task that waits for them needs less.
        """
        if self.shards > 1 and name == SHARDED_STEP:
            return self.defaults
        own = {SHARD_TASK: SHARDED_STEP, NODE_SETTINGS: TRAINER_STEP}.get(name, name)
        found = self.steps.get(own, Step()).with_defaults(self.defaults)
        if self.trainer and name == TRAINER_STEP:
            return found.model_copy(update={size: getattr(self.defaults, size) for size in _SIZES})
        return found
