"""A TrainJob of Kubeflow Trainer that trains on several nodes: the request from the profile, filled in by a run."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from graft.core.credentials import holds_credentials
from graft.core.errors import GraftError

API_VERSION, KIND, PLURAL = "trainer.kubeflow.org/v1alpha1", "TrainJob", "trainjobs"
CONTAINER = "node"
"""Kubeflow Trainer's name for the job of the nodes, and for the container in each."""
VARIABLE = "GRAFT_TRAIN_JOB"
"""Environment variable with the job request as JSON, set by the profile that the pipeline was compiled with."""
POD_NAME, POD_UID = "GRAFT_POD_NAME", "GRAFT_POD_UID"
_PASSED_ON = (
    *("GRAFT_PIPELINE_RUN", "GRAFT_RUN_NAME"),
    *("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_TRACKING_URI"),
)


class JobRequest(BaseModel):
    """The job that the profile requests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    manifest: dict[str, Any]
    """The TrainJob, without what only a run knows."""
    path: str
    """Path of the volume that the task and the nodes share."""
    keep: Literal["never", "failed", "always"]
    """Which finished jobs are kept."""


def build_train_job(
    request: JobRequest, name: str, folder: Path, inputs: Mapping[str, Path], environment: Mapping[str, str]
) -> dict[str, Any]:
    """Return the TrainJob of one run.

    Args:
        request: the job that the profile requests.
        name: name of the job.
        folder: on the shared volume, with `params.yaml`; the job writes `tuned`, `metrics.json` and, on failure,
            `error.txt`.
        inputs: inputs of step fine_tune, as paths on the nodes.
        environment: of the task: the variables that connect the MLflow runs are passed on, and the task's pod becomes
            the job's owner, so that the job is deleted with the pod.

    Raises:
        GraftError: if the MLflow URI contains a password.
    """
    manifest = deepcopy(request.manifest)
    pod, uid = environment.get(POD_NAME), environment.get(POD_UID)
    owner = [{"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}] if pod and uid else []
    manifest["metadata"] |= {"name": name, "ownerReferences": owner}
    options = {
        **inputs,
        "tuned": folder / "tuned",
        "metrics": folder / "metrics.json",
        "params": folder / "params.yaml",
    }
    trainer = manifest["spec"]["trainer"]
    # torchrun as a module: a torch that is mounted into the image has no torchrun command.
    trainer["command"] = ["python", "-m", "torch.distributed.run", "-m", "components.fine_tune.step"]
    trainer["args"] = [text for option, path in options.items() for text in (f"--{option}", str(path))]
    known = {variable["name"] for variable in trainer["env"]}
    passed = {key: environment[key] for key in _PASSED_ON if environment.get(key) and key not in known}
    for key, value in passed.items():
        if holds_credentials(value):
            raise GraftError(
                f"{key} holds a password; name it in the profile's secret_env, to keep it out of the TrainJob"
            )
    trainer["env"] += [{"name": key, "value": value} for key, value in passed.items()]
    return manifest


def outcome(job: Mapping[str, Any]) -> tuple[Literal["Complete", "Failed"], str] | None:
    """Return how a TrainJob ended, and why; None if it has not ended."""
    for condition in job.get("status", {}).get("conditions", []):
        if condition["status"] == "True" and condition["type"] in ("Complete", "Failed"):
            return condition["type"], f"{condition.get('reason', '')}: {condition.get('message', '')}".strip(": ")
    return None


def describe_progress(job: Mapping[str, Any]) -> str:
    """Return the state of a TrainJob in a few words."""
    found = job.get("status", {})
    states = [one["type"].lower() for one in found.get("conditions", []) if one["status"] == "True"]
    for one in found.get("jobsStatus", []):
        states += [f"{one['name']}: {what}" for what in ("active", "ready", "succeeded", "failed") if one.get(what)]
    return ", ".join(states) or "waiting"
