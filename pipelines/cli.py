"""The pipeline's commands: run it on this machine, through DVC, or compile it for Kubeflow."""

import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from graft.runs.params import Params
from pipelines.arguments import Overrides, load_params, load_run_params, one_line_errors
from pipelines.cluster import commands
from pipelines.cluster.submission import Data, Model, Pipeline, PipelineName, load_arguments, pin_data

STEPS = list(Params.model_fields)
LOCK = Path("dvc.lock")
DVC_METRICS = Path("artifacts/metrics")


class Runner(StrEnum):
    """How the steps of a local run start."""

    WARM = "warm"
    SUBPROCESS = "subprocess"


app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(commands.app)


@app.command()
def run(
    data: Annotated[str, typer.Option(help="folder or CSV manifest of your own images")] = "",
    params: Overrides = "",
    out: Annotated[Path, typer.Option(help="output folder for report, model and summary")] = Path("outputs"),
    containers: Annotated[bool, typer.Option("--containers", help="run each step in its container")] = False,
    force: Annotated[bool, typer.Option("--force", help="run the steps that have not changed, too")] = False,
    runner: Annotated[Runner, typer.Option(help="how steps start: forked with their imports done, or each anew")] = (
        Runner.WARM
    ),
) -> None:
    """Run the training pipeline on this machine."""
    with one_line_errors():
        settled, settings = load_run_params(params, data)
        from pipelines.local import summary
        from pipelines.local.execution import execute

        found = execute(
            settled,
            out,
            in_containers=containers,
            force=force,
            in_warm_processes=runner is Runner.WARM,
            settings=settings,
        )
        places = {
            "report": str(out / "report.html"),
            "bundle": str(out / "model"),
            "numbers": str(out / "summary.json"),
        }
        summary.show(found, Console(), places, "make ui")


@app.command()
def repro() -> None:
    """Run the steps that changed since the last run, through DVC."""
    with one_line_errors():
        load_params("")
        from graft.runs import pipeline_runs
        from graft.runs.abandoned import PIPELINE_PROCESS, this_process
        from graft.runs.termination import clean_end_on_sigterm
        from pipelines.local.runner import environment

        before = _bytes(LOCK)
        key = pipeline_runs.new_pipeline_run_key()
        owner = {PIPELINE_PROCESS: this_process()}
        with environment({"GRAFT_PIPELINE_RUN": key, "GRAFT_RUN_NAME": "repro"} | owner), clean_end_on_sigterm():
            code = subprocess.run([sys.executable, "-m", "dvc", "repro"], check=False).returncode
            if _bytes(LOCK) != before:
                # If the last steps were up to date, no step has ended the pipeline's MLflow run.
                pipeline_runs.end_pipeline_run(key, "FINISHED" if code == 0 else "FAILED")
        if code:
            raise SystemExit(code)
        from pipelines.local import summary

        metrics = summary.read_metrics({step: DVC_METRICS / f"{step}.json" for step in STEPS})
        total = sum(values["seconds"] for values in metrics.values())
        places = {"report": "artifacts/registration/report.html", "bundle": "artifacts/model"}
        summary.show(summary.build(metrics, total), Console(), places, "dvc metrics show")


@app.command("compile")
def compile_pipeline(
    pipeline: Pipeline = PipelineName.TRAINING,
    params: Overrides = "",
    data: Data = "",
    model: Model = "",
    profile: Annotated[str, typer.Option(help="a cluster's settings: a name or a file; default: no settings")] = "",
    native: Annotated[bool, typer.Option(help="write Kubernetes objects, not KFP's IR")] = False,
    namespace: Annotated[str | None, typer.Option(help="of the Kubernetes objects")] = None,
    version: Annotated[str | None, typer.Option(help="name of the PipelineVersion; new for each change")] = None,
    out: Annotated[Path | None, typer.Option(help="the file to write; default: outputs/<pipeline>.yaml")] = None,
) -> None:
    """Compile a pipeline for Kubeflow, with the parameters as its defaults."""
    with one_line_errors():
        from pipelines.cluster.compiled import write_pipeline
        from pipelines.cluster.profile import Profile

        settled, digest = pin_data(load_arguments(pipeline, params, data, model))
        settings = Profile.load(profile) if profile else None
        file = out or Path("outputs") / f"{pipeline}.yaml"
        write_pipeline(
            file, settled, profile=settings, data_digest=digest, native=native, namespace=namespace, version=version
        )
        print(f"{file}: the pipeline for Kubeflow")


@app.command()
def sync() -> None:
    """Tell MLflow what it could not take while it was gone."""
    with one_line_errors():
        from graft.runs import undelivered
        from graft.runs.mlflow_store import tracking_uri

        delivered, problems = undelivered.deliver(tracking_uri())
        print(f"{delivered} records of steps delivered")
        if problems:
            raise SystemExit("\n".join(problems))


@app.command()
def ui(port: Annotated[int, typer.Option(help="port on this machine")] = 5000) -> None:
    """Open MLflow's web interface with all runs and models."""
    with one_line_errors():
        from graft.runs.mlflow_store import open_client, tracking_uri

        uri = tracking_uri()
        open_client(uri)
        command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--port", str(port)]
        raise SystemExit(subprocess.run(command, check=False).returncode)


def _bytes(file: Path) -> bytes:
    return file.read_bytes() if file.is_file() else b""


if __name__ == "__main__":
    app()
