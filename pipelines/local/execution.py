"""One run of the training pipeline on this machine: steps, then what its user gets."""

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from graft.core.atomic import remove, replacing, write_json
from graft.core.errors import GraftError
from graft.runs import tracking
from graft.runs.mlflow_store import tracking_uri
from graft.runs.params import ExtractFeaturesParams, Params
from pipelines.arguments import pipeline_arguments
from pipelines.local import runner, summary
from pipelines.local.containers import Folder, run_in_containers
from pipelines.training import training

STEPS = list(Params.model_fields)


def execute(
    params: Params, out: Path, *, in_containers: bool = False, folders: Sequence[Folder] = ()
) -> summary.Summary:
    """Run the pipeline, show its progress, and put report, model, data page and summary into `out`.

    Args:
        params: of all steps.
        out: taken from an earlier run only by a run that succeeds; its `steps/` and `run.log` by any.
        in_containers: each step in the container of its image, instead of a process of its own.
        folders: what steps in containers see beside their inputs.

    Raises:
        GraftError: with the failing step's one-line cause; before anything runs if `out` cannot be used or there is no
            such backbone.
    """
    out = out.absolute()
    _check_writable(out)
    _check_backbones(params.extract_features)
    started = time.monotonic()
    root, log_file = out / "steps", out / "run.log"
    for earlier in root.glob(f"{training.name}-*"):
        remove(earlier)
    arguments, key = pipeline_arguments(params), tracking.new_pipeline_run_key()
    try:
        if in_containers:
            places = run_in_containers(
                training,
                arguments,
                STEPS,
                root,
                log_file,
                _tell,
                tracking_uri=tracking_uri(),
                pipeline_run=key,
                folders=folders,
            )
        else:
            with runner.environment({"GRAFT_PIPELINE_RUN": key, "PYTHONUNBUFFERED": "1"}):
                places = runner.run_locally(training, arguments, STEPS, root, log_file, _tell)
    except GraftError:
        _keep_page(root, out)
        raise
    metrics = summary.read_metrics({step: folder / runner.METRICS for step, folder in places.items()})
    found = summary.build(metrics, time.monotonic() - started)
    # register_model adds its decision to the page
    _copy(places["register_model"] / "registration" / "report.html", out / "report.html")
    _copy(places["fine_tune"] / "model", out / "model")
    _copy(places["validate_data"] / "page", out / "validation")
    _copy(places["review_features"] / "review", out / "review")
    write_json(out / "summary.json", found.model_dump(mode="json"))
    return found


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _keep_page(root: Path, out: Path) -> None:
    """Keep what validate_data found; if that is why the run failed, say where it is."""
    folder = runner.task_folders(root, STEPS).get("validate_data", root)
    if (folder / "page").is_dir():
        _copy(folder / "page", out / "validation")
        if not (folder / runner.METRICS).exists():
            _tell(f"what was found in the images: {out / 'validation' / 'data.html'}")


def _copy(source: Path, target: Path) -> None:
    """Copy a file or a folder so that a reader sees the old one or the new, whole."""
    with replacing(target) as temporary:
        if source.is_dir():
            shutil.copytree(source, temporary)
        else:
            shutil.copyfile(source, temporary)


def _check_writable(folder: Path) -> None:
    """Fail before the long run, not after it."""
    probe = folder / ".writable"
    write_json(probe, {})
    remove(probe)


def _check_backbones(params: ExtractFeaturesParams) -> None:
    """Fail over a misspelt name before the images are validated; the default is known to exist."""
    names = [name.partition("=")[0] for name in params.candidates] if params.backbone == "auto" else [params.backbone]
    unsure = [name for name in names if name != ExtractFeaturesParams().backbone]
    if unsure:
        from graft.backbones.weights import find_architecture  # late: it imports torch

        for name in unsure:
            find_architecture(name)
