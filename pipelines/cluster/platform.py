"""Apply a cluster's profile to a pipeline: KFP's resource settings and kfp-kubernetes' pod settings."""

import functools
from typing import Any

from kfp import dsl, kubernetes
from kfp.dsl.pipeline_context import Pipeline

from components.fine_tune.trainjob import POD_NAME, POD_UID, VARIABLE
from components.image import DATA_STEPS
from graft.serving.registry import CHAMPION
from pipelines.cluster.champion_service import serve_champion
from pipelines.cluster.profile import (
    CLOSING_STEPS,
    MODEL_STEPS,
    SHARD_TASK,
    SHARDED_STEP,
    TRAINER_STEP,
    UPDATE_STEPS,
    Profile,
    Step,
    Trainer,
    Workspace,
)
from pipelines.cluster.run_report import report_run
from pipelines.cluster.trainjob import order
from pipelines.code import step_digest

RUN_ID = "metadata.labels['pipeline/runid']"


def with_profile(pipeline: Any, profile: Profile, data_digest: str | None = None) -> Any:
    """Return a pipeline with the settings of `profile` on each task.

    Args:
        pipeline: made by `dsl.pipeline`.
        profile: the cluster's settings.
        data_digest: of the data that get_data will fetch. Without it the step's result is not cached, because nothing
            in the task shows whether the data has changed.
    """

    @functools.wraps(pipeline.pipeline_func)
    def with_settings(*args: Any, **kwargs: Any) -> None:
        with dsl.ExitHandler(report_run(), name="steps"):
            pipeline.pipeline_func(*args, **kwargs)
            registering = Pipeline.get_default_pipeline().tasks.get("register-model")
            if profile.serve and registering:
                with dsl.If(registering.outputs["alias"] == CHAMPION, name="champion"):
                    serve_champion(
                        registration=registering.outputs["registration"],
                        settings=profile.serve.model_dump(exclude_none=True),
                    )
        for name, task in Pipeline.get_default_pipeline().tasks.items():
            step = name.replace("-", "_")
            _image(task, profile, step)
            _settings(task, profile.step(step))
            if profile.trainer and step == TRAINER_STEP:
                _nodes(task, profile, profile.trainer)
            if step in (*MODEL_STEPS, *CLOSING_STEPS):
                # An alias may have moved to another model, and nothing in the task shows that; each run has its end.
                task.set_caching_options(False)
                continue
            cached = profile.cache and (step != "get_data" or data_digest is not None) and step not in UPDATE_STEPS
            set_cache_key(task, step, data_digest if step == "get_data" else None, cached)

    return dsl.pipeline(name=pipeline.name, pipeline_config=_pipeline_config(profile))(with_settings)


def set_cache_key(task: Any, step: str, data_digest: str | None, enabled: bool) -> None:
    """Make the step's code and the data part of the cache key.

    They are set as environment variables of the task: KFP's own `cache_key` would replace inputs and parameters.
    """
    task.set_caching_options(enabled)
    task.set_env_variable("GRAFT_CODE_DIGEST", step_digest(SHARDED_STEP if step == SHARD_TASK else step))
    if data_digest:
        task.set_env_variable("GRAFT_DATA_DIGEST", data_digest)


def _image(task: Any, profile: Profile, step: str) -> None:
    images = profile.images
    task.set_container_image(images.data if step in DATA_STEPS else images.torch)
    kubernetes.set_image_pull_policy(task, images.pull_policy)
    if images.pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(images.pull_secrets))


def _nodes(task: Any, profile: Profile, trainer: Trainer) -> None:
    """Make a task train on several nodes."""
    task.set_env_variable(VARIABLE, order(profile, trainer).model_dump_json())
    kubernetes.mount_pvc(task, trainer.claim, trainer.path)
    # The TrainJob is owned by the task's pod and deleted with it.
    kubernetes.use_field_path_as_env(task, POD_NAME, "metadata.name")
    kubernetes.use_field_path_as_env(task, POD_UID, "metadata.uid")


def _settings(task: Any, step: Step) -> None:
    for value, setter in (
        (step.cpu, task.set_cpu_request),
        (step.cpu_limit, task.set_cpu_limit),
        (step.memory, task.set_memory_request),
        (step.memory_limit, task.set_memory_limit),
    ):
        if value:
            setter(value)
    if step.gpu:
        task.set_accelerator_type(step.gpu.type).set_accelerator_limit(step.gpu.count)
    for key, value in step.node_selector.items():
        kubernetes.add_node_selector(task, key, value)
    for toleration in step.tolerations:
        named = toleration.model_dump(exclude={"seconds"}, exclude_none=True)
        kubernetes.add_toleration(task, **named, toleration_seconds=toleration.seconds)
    if step.shared_memory:
        kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit=step.shared_memory)
    if step.scratch:
        kubernetes.empty_dir_mount(task, "scratch", "/tmp", size_limit=step.scratch)
    for mount in step.mounts:
        kubernetes.mount_pvc(task, mount.claim, mount.path, mount.sub_path)
    _environment(task, step)
    if step.security:
        security = step.security
        kubernetes.set_security_context(task, security.user, security.group, security.non_root)
    if step.retry and step.retry.times:
        task.set_retry(step.retry.times, step.retry.wait, step.retry.factor, step.retry.longest_wait)
    if step.timeout:
        kubernetes.set_timeout(task, step.timeout)
    for key, value in step.labels.items():
        kubernetes.add_pod_label(task, key, value)
    for key, value in step.annotations.items():
        kubernetes.add_pod_annotation(task, key, value)


def _environment(task: Any, step: Step) -> None:
    # The steps of a pipeline run share one MLflow run, identified on a cluster by the pipeline run's id.
    kubernetes.use_field_path_as_env(task, "GRAFT_PIPELINE_RUN", RUN_ID)
    for secret, keys in step.secret_env.items():
        kubernetes.use_secret_as_env(task, secret, keys)
    for config_map, keys in step.config_env.items():
        kubernetes.use_config_map_as_env(task, config_map, keys)
    for name, value in step.env.items():
        task.set_env_variable(name, value)


def _pipeline_config(profile: Profile) -> dsl.PipelineConfig:
    return dsl.PipelineConfig(
        workspace=_workspace(profile.workspace) if profile.workspace else None,
        ttl_seconds_after_finished=profile.keep_finished,
        ttl_seconds_after_failure=profile.keep_failed,
        active_deadline_seconds=profile.deadline,
    )


def _workspace(workspace: Workspace) -> dsl.WorkspaceConfig:
    claim = {"storageClassName": workspace.storage_class, "accessModes": list(workspace.access_modes)}
    patch = {name: value for name, value in claim.items() if value}
    return dsl.WorkspaceConfig(workspace.size, dsl.KubernetesWorkspaceConfig(pvcSpecPatch=patch))
