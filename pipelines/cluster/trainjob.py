"""The manifest of a Kubeflow TrainJob, which trains on several nodes, as far as the profile determines it.

The fine_tune task adds what only a run knows (name, paths, owner): see `components.fine_tune.trainjob`.
"""

from typing import Any

from components.fine_tune.trainjob import API_VERSION, CONTAINER, KIND, JobRequest
from pipelines.cluster.profile import NODE_SETTINGS, Profile, Step, Trainer

MANAGER = "graft.pipelines/training"
_SHARED = "graft-shared"


def order(profile: Profile, trainer: Trainer) -> JobRequest:
    """Return the instructions for the fine_tune task: the manifest, the shared folder, and which jobs to keep."""
    return JobRequest(manifest=manifest(profile, trainer), path=trainer.path, keep=trainer.keep)


def manifest(profile: Profile, trainer: Trainer) -> dict[str, Any]:
    """Return the TrainJob (trainer.kubeflow.org/v1alpha1), without name, namespace and command."""
    step = profile.step(NODE_SETTINGS)
    spec: dict[str, Any] = {
        "runtimeRef": {"name": trainer.runtime},
        "trainer": {
            "image": profile.images.torch,
            "numNodes": trainer.nodes,
            "numProcPerNode": trainer.processes_per_node or (step.gpu.count if step.gpu else 1),
            "env": _environment(step, trainer),
            **_filled(resourcesPerNode=_resources(step)),
        },
        "runtimePatches": [
            {"manager": MANAGER, "trainingRuntimeSpec": {"template": {"spec": _patch(profile, trainer)}}}
        ],
        **_filled(activeDeadlineSeconds=step.timeout),
    }
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"labels": dict(step.labels)}, "spec": spec}


def _patch(profile: Profile, trainer: Trainer) -> dict[str, Any]:
    """Return the patch of the JobSet: pod settings for which the TrainJob has no field of its own."""
    step = profile.step(NODE_SETTINGS)
    volumes, mounts = _volumes(step, trainer)
    security = step.security
    pod = _filled(
        volumes=volumes,
        containers=[{"name": CONTAINER, "volumeMounts": mounts}],
        imagePullSecrets=[{"name": name} for name in profile.images.pull_secrets],
        nodeSelector=dict(step.node_selector),
        tolerations=[
            _filled(
                key=one.key, operator=one.operator, value=one.value, effect=one.effect, tolerationSeconds=one.seconds
            )
            for one in step.tolerations
        ],
        securityContext=security
        and _filled(runAsUser=security.user, runAsGroup=security.group, runAsNonRoot=security.non_root),
    )
    template = {"spec": pod, **_filled(metadata=_filled(labels=dict(step.labels), annotations=dict(step.annotations)))}
    return {"replicatedJobs": [{"name": CONTAINER, "template": {"spec": {"template": template}}}]}


def _volumes(step: Step, trainer: Trainer) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    claims = [(_SHARED, trainer.claim, trainer.path, "")]
    claims += [(f"mount-{number}", one.claim, one.path, one.sub_path) for number, one in enumerate(step.mounts)]
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    for name, claim, path, sub_path in claims:
        volumes.append({"name": name, "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": name, "mountPath": path, **_filled(subPath=sub_path)})
    for name, path, medium, size in (
        ("shm", "/dev/shm", "Memory", step.shared_memory),
        ("scratch", "/tmp", "", step.scratch),
    ):
        if size:
            volumes.append({"name": name, "emptyDir": {"sizeLimit": size, **_filled(medium=medium)}})
            mounts.append({"name": name, "mountPath": path})
    return volumes, mounts


def _environment(step: Step, trainer: Trainer) -> list[dict[str, Any]]:
    """Return the profile's variables (secrets only by name) and a cache folder that survives a restart of the pod."""
    plain = {"GRAFT_CACHE": f"{trainer.path}/graft-cache"} | step.env
    found: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in plain.items()]
    for source, kind in ((step.secret_env, "secretKeyRef"), (step.config_env, "configMapKeyRef")):
        for name, keys in source.items():
            found += [{"name": to, "valueFrom": {kind: {"name": name, "key": key}}} for key, to in keys.items()]
    return found


def _resources(step: Step) -> dict[str, Any]:
    gpu = {step.gpu.type: str(step.gpu.count)} if step.gpu else {}
    return _filled(
        requests=_filled(cpu=step.cpu, memory=step.memory),
        limits=_filled(cpu=step.cpu_limit, memory=step.memory_limit) | gpu,
    )


def _filled(**fields: Any) -> dict[str, Any]:
    """Return the fields that are not empty."""
    return {name: value for name, value in fields.items() if value not in (None, "", [], {}, ())}
