"""A step that records something of every kind, and what MLflow knows of it afterwards."""

from pathlib import Path
from typing import Any

from mlflow.tracking import MlflowClient

from graft.params.train_head import TrainHeadParams
from graft.runs import live_log, pipeline_runs
from graft.runs.run_log import Log
from graft.runs.step import In, Metrics, Out, step


@step
def learn(images: In, model: Out, params: TrainHeadParams, log: Log) -> Metrics:
    """Learn something worth keeping."""
    log.metric("loss", 0.5, step=1)
    log.params({"chosen": {"l2": 0.1}})
    model.mkdir()
    (model / "weights.txt").write_text("learnt")
    log.artifact(model, "model")
    log.artifact(model / "weights.txt", shared=True)
    log.dataset("digits", "d" * 64, "data/digits", {"train": 10}, "training")
    log.tag("depth", "blocks.5")
    log.summary({"val.accuracy": 0.9})
    log.describe("digits · 0.900", "right on most")
    return {"accuracy": 0.9}


def run_step(folder: Path) -> None:
    (folder / "images").mkdir(exist_ok=True)
    learn.run(params={}, metrics=folder / "m.json", images=folder / "images", model=folder / "model")


def recorded(client: MlflowClient, key: str = "key") -> dict[str, Any]:
    """Return what MLflow knows about a pipeline and its only step, times and ids apart."""
    parent = client.get_run(str(pipeline_runs.pipeline_run_id(key)))
    runs = client.search_runs([parent.info.experiment_id], f"tags.`{live_log.STEP_TAG}` = 'learn'")
    (run,) = (one for one in runs if one.data.tags.get("mlflow.parentRunId") == parent.info.run_id)
    times = {"seconds", "duration_seconds"}
    return {
        "status": (run.info.status, parent.info.status),
        "params": (run.data.params, parent.data.params),
        "metrics": ({k: v for k, v in run.data.metrics.items() if k not in times}, parent.data.metrics),
        "tags": (run.data.tags["depth"], run.data.tags[live_log.DATA_TAG], parent.data.tags[live_log.DATA_TAG]),
        "files": sorted(
            file.path for folder in ("", "model") for file in client.list_artifacts(run.info.run_id, folder)
        ),
        "described": (parent.info.run_name, parent.data.tags.get("mlflow.note.content")),
        "of all": [file.path for file in client.list_artifacts(parent.info.run_id)],
        "data": [entry.dataset.name for entry in run.inputs.dataset_inputs],
    }
