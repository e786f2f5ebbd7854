"""A TrainJob of Kubeflow Trainer that trains on several nodes: what is ordered, and what a run adds to it."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from graft.core.credentials import holds_credentials
from graft.core.errors import GraftError

API_VERSION, KIND, PLURAL = "trainer.kubeflow.org/v1alpha1", "TrainJob", "trainjobs"
CONTAINER = "node"
"""What Kubeflow Trainer calls the job of the nodes, and the container in each."""
VARIABLE = "GRAFT_TRAIN_JOB"
"""Holds the order, as JSON: set by the profile that the pipeline was compiled with."""
POD_NAME, POD_UID = "GRAFT_POD_NAME", "GRAFT_POD_UID"
_PASSED_ON = (
    *("GRAFT_PIPELINE_RUN", "GRAFT_RUN_NAME"),
    *("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_TRACKING_URI"),
)


class Order(BaseModel):
    """What the profile asks for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    manifest: dict[str, Any]
    """The TrainJob as far as a profile knows it."""
    path: str
    """Where the task and the nodes see the volume they share."""
    keep: Literal["never", "failed", "always"]
    """Which finished jobs stay."""


def filled(
    order: Order, name: str, folder: Path, inputs: Mapping[str, Path], environment: Mapping[str, str]
) -> dict[str, Any]:
    """Return the TrainJob of one run.

    Args:
        order: what the profile asks for.
        name: of the job.
        folder: on the shared volume: holds `params.yaml`, takes `model`, `metrics.json` and, on failure, `error.txt`.
        inputs: of step fine_tune, as the nodes see them.
        environment: of the task: what ties the record in MLflow together is passed on, and the task's pod becomes the
            job's owner, so that the job goes when the pod does.

    Raises:
        GraftError: if the address of MLflow holds a password.
    """
    manifest = deepcopy(order.manifest)
    pod, uid = environment.get(POD_NAME), environment.get(POD_UID)
    owner = [{"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}] if pod and uid else []
    manifest["metadata"] |= {"name": name, "ownerReferences": owner}
    options = {
        **inputs,
        "model": folder / "model",
        "metrics": folder / "metrics.json",
        "params": folder / "params.yaml",
    }
    trainer = manifest["spec"]["trainer"]
    # torchrun by its module's name: a torch that is mounted into the image brings no command along.
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
    """Return how a TrainJob ended, and its message; None while it has not."""
    for condition in job.get("status", {}).get("conditions", []):
        if condition["status"] == "True" and condition["type"] in ("Complete", "Failed"):
            return condition["type"], f"{condition.get('reason', '')}: {condition.get('message', '')}".strip(": ")
    return None


def progress(job: Mapping[str, Any]) -> str:
    """Return how far a TrainJob is, in a few words."""
    found = job.get("status", {})
    states = [one["type"].lower() for one in found.get("conditions", []) if one["status"] == "True"]
    for one in found.get("jobsStatus", []):
        states += [f"{one['name']}: {what}" for what in ("active", "ready", "succeeded", "failed") if one.get(what)]
    return ", ".join(states) or "waiting"
