"""Learning over time on this machine: update a model with new images, and tell what it has learnt."""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from graft.core.atomic import read_json, remove
from graft.core.temporaries import machine_temporaries
from pipelines.arguments import Overrides, one_line_errors
from pipelines.default_model import last_address
from pipelines.local.occupied import occupied
from pipelines.local.progress import print_progress
from pipelines.update_arguments import UpdateParams, load_update_params

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
Address = Annotated[str, typer.Option(help="bundle's folder or models:/name@alias; empty: as in update/params.yaml")]


@app.command()
def update(
    data: Annotated[str, typer.Option(help="folder or CSV manifest of new, labelled images")],
    model: Address = "",
    params: Overrides = "",
    out: Annotated[Path, typer.Option(help="output folder for the page, the model and the numbers")] = Path(
        "outputs/update"
    ),
) -> None:
    """Add new images to a model, examine it on old and new, and register it."""
    with one_line_errors():
        settled = load_update_params(params, data, model or last_address())
        with one_at_a_time(settled.update_model.model):
            found = execute(settled, out)
        version, numbers = found["register_update"], found["update_model"]
        print(f"{numbers['headline']}")
        for name in ("acc", "bwt", "forgetting"):
            value = numbers["continual"][name]
            if value["value"] is not None:
                print(f"  {name:10}  {value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})")
        print(f"  {version['alias']:10}  {version['name']} version {version['version']}")
        for reason in version["reasons"]:
            print(f"              {reason}")
        print(f"  page        {out / 'update.html'}\n  model       {out / 'model'}")


@app.command()
def history(model: Address = "") -> None:
    """Show which experiences a model has learnt, and what it knows of each."""
    with one_line_errors(), tempfile.TemporaryDirectory() as work:
        address = _address(model)
        from graft.continual.exam import Exam
        from graft.continual.forgetting import accuracy_matrix
        from graft.continual.history import History
        from graft.serving.loading import fetch_model

        folder = fetch_model(address, Path(work)).bundle
        experiences, exam = History.load(folder).experiences, Exam.load(folder)
        matrix = None if exam is None else accuracy_matrix(exam)
        print(f"{address}: {len(experiences)} experience{'s' * (len(experiences) > 1)}")
        for number, one in enumerate(experiences):
            classes = ", ".join(f"{label} {count}" for label, count in one.classes.items())
            print(f"{number:3} {one.learnt_on} {one.name}: {one.images:,} images by {one.method} ({classes})")
            print(f"    data {one.digest[:12]}, {one.test_images} test images")
            if matrix is not None:
                row = " ".join("    -" if value != value else f"{value:5.3f}" for value in matrix[number])
                print(f"    accuracy on each: {row}")


@app.command()
def forget(
    file: Annotated[Path, typer.Option(help="CSV with a column id (sha256 of each image's bytes) or path")],
    data: Annotated[Path, typer.Option(help="folder where these images are")],
    model: Address = "",
    out: Annotated[Path, typer.Option(help="output folder for the model")] = Path("outputs/forget"),
) -> None:
    """Make a model that never saw some images, and check that exactly their contribution was taken out."""
    with one_line_errors():
        address = _address(model)
        from graft.revision.unlearning import MODEL, PROOF, forget_listed_images
        from graft.runs import tracking
        from graft.serving.challenger import Provenance

        recorded = {"file": str(file), "data": str(data), "model": address}
        with occupied(out, out), tracking.step_run("forget", recorded) as log:
            record = tracking.current()
            found = forget_listed_images(address, file, data, out, Provenance(record.run_id if record else None))
            log.metric("forgotten", found["learnt"])
            log.metric("error", found["error"])
        print(f"{found['learnt']:,} images taken out of the memory, {found['examined']:,} out of the exam")
        print(f"added again they give the memory of before to {found['error']:.1e}")
        if not found["adaptable"]:
            print("  make adapt needs class moments and a sample of features, which could not be mended: train again")
        if found["version"]:
            print(f"  challenger  {found['version']} (earlier versions still hold the images: remove those, too)")
        print(f"  model       {out / MODEL}\n  proof       {out / PROOF}")


def _address(model: str) -> str:
    """Return the model's address: as given, that of the last run here, or that of update/params.yaml."""
    return model or last_address() or load_update_params("").update_model.model


def execute(params: UpdateParams, out: Path) -> dict[str, dict[str, Any]]:
    """Run the update pipeline, and put its page, model and numbers into `out`; return the steps' numbers.

    Only a run that succeeds replaces earlier results.

    Raises:
        GraftError: with the one-line cause of the failing step, or if another run writes to `out`.
    """
    out = out.absolute()
    root = out / "steps"
    with occupied(out, root):
        return _execute(params, out, root)


def _execute(params: UpdateParams, out: Path, root: Path) -> dict[str, dict[str, Any]]:
    from graft.core.atomic import write_json
    from graft.runs import pipeline_runs
    from pipelines.local import runner
    from pipelines.local.execution import copy
    from pipelines.local.progress import PlainLines
    from pipelines.local.warm import warm
    from pipelines.update import STEPS
    from pipelines.update import update as pipeline

    for earlier in root.glob(f"{pipeline.name}-*"):
        remove(earlier)
    key = pipeline_runs.new_pipeline_run_key()
    with (
        runner.environment({"GRAFT_PIPELINE_RUN": key, "GRAFT_RUN_NAME": "update", "PYTHONUNBUFFERED": "1"}),
        warm(STEPS) as starting,
    ):
        shown = PlainLines(print_progress)
        places = runner.run_locally(pipeline, params.arguments(), STEPS, root, out / "run.log", shown, choose=starting)
    found = {step: read_json(folder / runner.METRICS) for step, folder in places.items()}
    copy(places["register_update"] / "registration" / "update.html", out / "update.html")
    copy(places["update_model"] / "model", out / "model")
    write_json(out / "summary.json", found)
    return found


@contextmanager
def one_at_a_time(address: str) -> Iterator[None]:
    """Let one update of a model run at a time on this machine: the next one begins with what this one leaves."""
    from graft.runs.mlflow_store import tracking_uri

    model = address.partition("@")[0] if address.startswith("models:/") else str(Path(address).absolute())
    name = hashlib.sha256(f"{tracking_uri()} {model}".encode()).hexdigest()[:16]
    lock = machine_temporaries() / f"graft-update-{os.getuid()}-{name}.lock"
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print_progress(f"another update of {address} is running; this one begins when it has ended")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    app()
