"""One run of the training pipeline on this machine: run the steps, then copy their results to the output folder."""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

from graft.core.atomic import remove, replacing, write_json
from graft.core.errors import GraftError, ParamsError
from graft.core.owners import this_process
from graft.core.temporaries import own_temporaries
from graft.data.source import data_name, registered_name
from graft.params.params import Params
from graft.params.run_settings import RunSettings
from graft.runs import pipeline_runs, undelivered
from graft.runs.abandoned import PIPELINE_PROCESS
from graft.runs.mlflow_store import tracking_uri
from graft.runs.termination import Terminated, clean_end_on_sigterm
from pipelines.arguments import pipeline_arguments
from pipelines.local import runner, summary
from pipelines.local.beforehand import beforehand
from pipelines.local.checks import check_backbones, check_writable
from pipelines.local.containers import Folder, run_in_containers
from pipelines.local.last_run import record_model, record_run
from pipelines.local.occupied import occupied
from pipelines.local.progress import Shown, showing
from pipelines.local.reuse import results_of_earlier_runs
from pipelines.local.tasks import Start
from pipelines.local.time_budget import TimeBudget
from pipelines.local.warm import warm

STEPS = list(Params.model_fields)
PLAIN = RunSettings()
"""No preset and no budget."""


def execute(
    params: Params,
    out: Path,
    *,
    in_containers: bool = False,
    folders: Sequence[Folder] = (),
    force: bool = False,
    in_warm_processes: bool = True,
    settings: RunSettings = PLAIN,
    shown: Shown | None = None,
) -> summary.Summary:
    """Run the pipeline, show its progress, and put report, model, data page and summary into `out`.

    Args:
        params: of all steps.
        out: output folder; only a successful run replaces earlier results, every run replaces `steps/` and `run.log`.
        in_containers: run each step in a container of its image instead of a process.
        folders: further folders to mount into the containers.
        force: run the steps whose results of an earlier run could be reused, too; containers always run all.
        in_warm_processes: fork the steps from a server that has imported their packages, instead of starting each in a
            new Python process.
        settings: preset and budget of the run; the parameters are those of the preset already.
        shown: is told what happens; None: a bar in a terminal, else plain lines on standard error.

    Raises:
        GraftError: with the one-line cause of the failing step; before anything runs if `out` cannot be used or the
            backbone does not exist.
    """
    out = out.absolute()
    check_writable(out)
    check_backbones(params.extract_features)
    params = _with_name(params)
    with (
        occupied(out, out / "steps"),
        clean_end_on_sigterm(),
        own_temporaries(),
        nullcontext(shown) if shown else showing(STEPS) as listener,
        warm(STEPS) if in_warm_processes and not in_containers else nullcontext(_as_kfp_does) as starting,
    ):
        record_run(params.model_dump(mode="json"), settings.model_dump(mode="json"), out)
        return _execute(params, out, in_containers, folders, force, starting, settings, listener)


def _execute(
    params: Params,
    out: Path,
    in_containers: bool,
    folders: Sequence[Folder],
    force: bool,
    starting: Callable[[Start], Start],
    settings: RunSettings,
    shown: Shown,
) -> summary.Summary:
    started = time.monotonic()
    from pipelines.training import training  # late: KFP is imported while the steps' server imports for them

    root, log_file = out / "steps", out / "run.log"
    for earlier in root.glob(f"{training.name}-*"):
        remove(earlier)
    arguments, key = pipeline_arguments(params), pipeline_runs.new_pipeline_run_key()
    reused: list[str] = []
    limiting = _limiting(settings)
    try:
        if in_containers:
            if settings.seconds is not None:
                raise ParamsError("budget: not for runs in containers (CONTAINERS=1)")
            places = run_in_containers(
                training,
                arguments,
                STEPS,
                root,
                log_file,
                shown,
                tracking_uri=tracking_uri(),
                pipeline_run=key,
                folders=folders,
            )
        else:
            with (
                runner.environment(
                    {
                        "GRAFT_PIPELINE_RUN": key,
                        PIPELINE_PROCESS: this_process(),
                        pipeline_runs.RUN_TAGS: json.dumps(settings.as_tags()),
                        "PYTHONUNBUFFERED": "1",
                    }
                ),
                beforehand(STEPS) as prepared,
                results_of_earlier_runs(
                    key, prepared.code_digest, force=force, budget=_budget_key(settings)
                ) as results,
            ):
                places = runner.run_locally(
                    training,
                    arguments,
                    STEPS,
                    root,
                    log_file,
                    shown,
                    choose=lambda plain: results.reusing(limiting(prepared.importing(starting(plain)))),
                )
                reused = results.reused
    except GraftError as error:
        _keep_page(root, out, shown)
        if any((folder / runner.METRICS).exists() for folder in runner.task_folders(root, STEPS).values()):
            shown.say("what is done stays: graft resume goes on at the step that failed")
        raise GraftError(f"{error}{_kept_model(root)}") from error
    except (KeyboardInterrupt, Terminated):
        with suppress(GraftError):  # a step that had begun has done so already
            pipeline_runs.end_pipeline_run(key, "KILLED")
        raise
    metrics = summary.read_metrics({step: folder / runner.METRICS for step, folder in places.items()})
    found = summary.build(metrics, time.monotonic() - started, reused)
    # This copy of the report contains the promotion decision.
    copy(places["register_model"] / "registration" / "report.html", out / "report.html")
    copy(places["adapt"] / "model", out / "model")
    if any((places["adapt"] / "adaptation").iterdir()):
        copy(places["adapt"] / "adaptation", out / "adaptation")
    copy(places["validate_data"] / "page", out / "validation")
    copy(places["review_features"] / "review", out / "review")
    write_json(out / "summary.json", found.model_dump(mode="json"))
    record_model(found.model.name, found.model.version, found.model.alias, out)
    # Last: a run that was killed before registers no second model when it is started again (see `serving.adoption`).
    undelivered.end_pipeline(key, found.seconds["total"])
    return found


def _as_kfp_does(plain: Start) -> Start:
    return plain


def _limiting(settings: RunSettings) -> Callable[[Start], Start]:
    """Return what makes a way to start tasks keep to the budget."""
    if settings.seconds is None:
        return lambda start: start
    return TimeBudget(settings.seconds, settings.budget, STEPS).limiting


def _budget_key(settings: RunSettings) -> str:
    return "" if settings.seconds is None else settings.budget


def _with_name(params: Params) -> Params:
    """Return the parameters with the registered name that the data give: in a container their folder has another."""
    name = registered_name(params.register_model.name, data_name(params.get_data.source, params.get_data.repo))
    return params.model_copy(update={"register_model": params.register_model.model_copy(update={"name": name})})


def _keep_page(root: Path, out: Path, shown: Shown) -> None:
    """Keep the data page of a failed run; if validate_data failed, print where it is."""
    folder = runner.task_folders(root, STEPS).get("validate_data", root)
    if (folder / "page").is_dir():
        copy(folder / "page", out / "validation")
        if not (folder / runner.METRICS).exists():
            shown.say(f"problems in the images: {out / 'validation' / 'data.html'}")


def _kept_model(root: Path) -> str:
    """Return a clause that says where the model of a run is that failed after its training; empty if there is none."""
    model = runner.task_folders(root, STEPS).get("fine_tune", root) / "tuned"
    return f" (the trained model is in {model}; graft resume goes on from there)" if model.is_dir() else ""


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder atomically: a reader sees either the old or the new one."""
    with replacing(target, checksums=False) as temporary:
        if source.is_dir():
            shutil.copytree(source, temporary)
        else:
            shutil.copyfile(source, temporary)
