"""The command `predict`: images to answers on the screen, or a folder to a table and a page about drift."""

import os
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graft.core.errors import DataError, GraftError
from pipelines.arguments import one_line_errors
from pipelines.console import options
from pipelines.default_model import default_address
from pipelines.local.last_run import last_model
from pipelines.local.progress import print_progress

if TYPE_CHECKING:
    from graft.models.bundle import ModelBundle

Images = Annotated[
    list[Path], typer.Argument(help="image files, or one folder with any subfolders", show_default=False)
]


def predict(
    data: Images,
    model: options.Address = "",
    out: Annotated[Path, typer.Option(help="for a folder: where table and drift page go")] = Path(
        "outputs/predictions"
    ),
    to_label: Annotated[
        int, typer.Option(min=0, help="for a folder: most images to list for labelling; 0: none")
    ] = 100,
) -> None:
    """Answer what images show.

    Files are answered on the screen. A folder becomes a table, a page that compares its images with those that the
    model was tested on, and a list of the images that are worth a label next.
    """
    with one_line_errors():
        for path in data:
            if not path.exists():
                raise DataError(f"{path}: no such file or folder; expected image files, or a folder of them")
        if len(data) == 1 and data[0].is_dir():
            _predict_folder(data[0], model or default_address(), out, to_label)
        else:
            _predict_files(data, model)


def _predict_files(files: Sequence[Path], address: str) -> None:
    model = _bundle(address)
    answers = model.predict([str(path) for path in files], errors="row")
    width = max(len(str(path)) for path in files)
    for path, (_, answer) in zip(files, answers.iterrows(), strict=True):
        print(f"{path!s:{width}}  {_answer(answer)}")


def _answer(answer: Any) -> str:
    if answer.get("error"):
        return f"no answer: {answer['error']}"
    told = f"{answer['label']}  {answer['confidence']:.3f}"
    return f"{told}  not sure enough to answer" if answer.get("abstain") else told


def _bundle(address: str) -> "ModelBundle":
    """Load the model; that of the last run from its output folder, which needs no registry."""
    if not address and (last := last_model()) and (Path(last.out) / "model").is_dir():
        print_progress(f"model: {last}")
        address = str(Path(last.out) / "model")
    address = address or default_address()
    from graft import load  # late: it imports torch, and a missing model should be told at once

    return load(address)


def _predict_folder(folder: Path, address: str, out: Path, to_label: int) -> None:
    from graft.batch_prediction.monitoring import predict_and_compare
    from graft.runs import tracking
    from graft.runs.run_log import SilentLog
    from graft.serving.loading import fetch_model
    from graft.tasks.pixels import pixel_task

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GraftError(f"{out}: {os.strerror(error.errno or 0)}") from error
    # Predicting with a model's folder needs no MLflow.
    recorded = find_spec("mlflow") is not None
    values = {"data": str(folder), "model": address}
    with tracking.step_run("batch_predict", values) if recorded else nullcontext(SilentLog()) as log:
        with tempfile.TemporaryDirectory() as work:
            fetched = fetch_model(address, Path(work)).bundle
            if (task := pixel_task(fetched)) is not None:
                from graft.pixel_serving.pixel_kinds import open_model
                from graft.pixel_serving.pixel_prediction import predict_photos

                answers = predict_photos(open_model(fetched), folder, out, log)
                print(f"{answers['images']:,} photos; {answers['errors']:,} could not be read")
                print(f"  answers  {answers['table']} (and .csv), files beside it; task {task.kind} has no drift page")
                return
        found = predict_and_compare(address, folder, out, log, to_label)
    reused = f", {found['reused']:,} of them predicted earlier" if found["reused"] else ""
    print(f"{found['images']:,} images{reused}; {found['errors']:,} could not be read")
    print(f"{found['headline']}\n  answers  {found['table']} (and .csv)\n  drift    {found['page']}")
    if found["to_label"]:
        print(f"  to label {found['to_label']}; decide on {found['to_label_page']}")
    if found["next_step"]:
        print(found["next_step"].replace("<their folder>", str(folder)))
