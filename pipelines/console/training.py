"""The commands that train: `run`, `resume` and `repro`."""

import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from graft.core.errors import GraftError
from graft.params.checking import validate_values
from graft.params.fine_tune import FineTuneParams
from graft.params.get_data import GetDataParams
from graft.params.params import Params
from graft.params.run_settings import RunSettings
from pipelines.arguments import Overrides, load_params, load_run_params, one_line_errors
from pipelines.console import options

STEPS = list(Params.model_fields)
LOCK = Path("dvc.lock")
DVC_METRICS = Path("artifacts/metrics")
DEMO_BUDGET = "20s"
"""For stages, in a run of the demo alone: whoever tries Graft for the first time should not wait for minutes."""


class Runner(StrEnum):
    """How the steps of a local run start."""

    WARM = "warm"
    SUBPROCESS = "subprocess"


Containers = Annotated[bool, typer.Option("--containers", help="run each step in its container")]
Force = Annotated[bool, typer.Option("--force", help="run the steps that have not changed, too")]
Steps = Annotated[Runner, typer.Option(help="how steps start: forked with their imports done, or each anew")]


def run(
    data: options.Data = "",
    params: Overrides = "",
    preset: Annotated[str, typer.Option(help="quick | balanced | best; default: preset of params.yaml")] = "",
    budget: Annotated[str, typer.Option(help="most time for the run: 90s | 5m | 1h | none")] = "",
    out: Annotated[Path, typer.Option(help="output folder for report, model and summary")] = Path("outputs"),
    containers: Containers = False,
    force: Force = False,
    runner: Steps = Runner.WARM,
) -> None:
    """Train, test and register a model: look at the images, say what will happen, and do it.

    Without DATA it uses params.yaml of this folder, or the demo: real handwritten digits.
    """
    with one_line_errors():
        words = [params, f"preset={preset}" if preset else "", f"budget={budget}" if budget else ""]
        settled, settings = load_run_params(" ".join(filter(None, words)), data)
        if not data and settled.get_data == GetDataParams():
            settled = _demo(settled, settings)
        _run(settled, settings, out, containers=containers, force=force, runner=runner)


def resume(
    containers: Containers = False,
    runner: Steps = Runner.WARM,
) -> None:
    """Go on with the last run of this folder, at the step that failed or was interrupted."""
    with one_line_errors():
        from pipelines.local.last_run import last_run

        last = last_run()
        if last is None:
            raise GraftError("nothing to go on with: no run was started in this folder; graft run FOLDER starts one")
        settled = validate_values(Params, last.params, where="the last run")
        settings = validate_values(RunSettings, last.settings, where="the last run")
        _run(settled, settings, Path(last.out), containers=containers, force=False, runner=runner)


def _run(params: Params, settings: RunSettings, out: Path, *, containers: bool, force: bool, runner: Runner) -> None:
    from pipelines.local.look import look

    console = Console()
    ahead = look(params, out)
    for heading, text in ahead.lines():
        console.print(f"{heading:9} {text}", highlight=False, markup=False, soft_wrap=True)
    if settings.seconds is not None:
        console.print(f"budget    {settings.budget}; the report says what is left out for it", highlight=False)
    from pipelines.local import summary
    from pipelines.local.execution import execute

    found = execute(
        params,
        out,
        in_containers=containers,
        force=force,
        in_warm_processes=runner is Runner.WARM,
        settings=settings,
    )
    summary.show(found, console, summary.places(out), "graft predict IMAGE_OR_FOLDER")


def _demo(params: Params, settings: RunSettings) -> Params:
    """Write the demo's images; return parameters with which its first run is short, unless the user chose otherwise."""
    from graft.demo.demo_digits import DEMO_FOLDER, write_demo

    if write_demo():
        print(f"{DEMO_FOLDER}: the demo, 1,500 real handwritten digits", file=sys.stderr)
    if params.fine_tune != FineTuneParams() or settings != RunSettings():
        return params
    print(
        f"demo      stages of fine-tuning get {DEMO_BUDGET}; graft run {DEMO_FOLDER} gives them as long as they pay: "
        "minutes, and a third of the mistakes are gone",
        file=sys.stderr,
    )
    return params.model_copy(update={"fine_tune": params.fine_tune.model_copy(update={"budget": DEMO_BUDGET})})


def repro() -> None:
    """Run the steps that changed since the last run, through DVC (dvc.yaml of this folder)."""
    with one_line_errors():
        load_params("")
        from graft.core.owners import this_process
        from graft.runs import pipeline_runs
        from graft.runs.abandoned import PIPELINE_PROCESS
        from graft.runs.termination import clean_end_on_sigterm
        from pipelines.local.runner import environment

        before = _state()
        key = pipeline_runs.new_pipeline_run_key()
        owner = {PIPELINE_PROCESS: this_process()}
        with environment({"GRAFT_PIPELINE_RUN": key} | owner), clean_end_on_sigterm():
            code = subprocess.run([sys.executable, "-m", "dvc", "repro"], check=False).returncode
            if _state() != before:  # else no step ran
                pipeline_runs.end_pipeline_run(key, "FINISHED" if code == 0 else "FAILED")
        if code:
            raise SystemExit(code)
        from pipelines.local import summary

        metrics = summary.read_metrics({step: DVC_METRICS / f"{step}.json" for step in STEPS})
        total = sum(values["seconds"] for values in metrics.values())
        places = {"open": "artifacts/registration/report.html", "model folder": "artifacts/model"}
        summary.show(summary.build(metrics, total), Console(), places, "dvc metrics show")


def step(context: typer.Context) -> None:
    """Run one step by itself, as dvc.yaml does: `graft step NAME --help` shows its options."""
    from importlib import import_module

    name, *words = context.args or [""]
    with one_line_errors():
        try:
            module = import_module(f"components.{name}.step")
        except ModuleNotFoundError as error:
            if error.name and not f"components.{name}.step".startswith(error.name):
                raise
            raise GraftError(f"no step {name!r}; known are {', '.join(STEPS)}") from error
    sys.argv = [f"graft step {name}", *words]
    getattr(module, name).main()


def _state() -> tuple[bytes, list[int]]:
    """Return what changes when DVC runs a step."""
    written = [file.stat().st_mtime_ns for file in sorted(DVC_METRICS.glob("*.json"))]
    return LOCK.read_bytes() if LOCK.is_file() else b"", written
