"""The commands that take a model further: `update`, `adapt`, `history` and `forget`."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines import adapt_folder, updating
from pipelines.arguments import Overrides
from pipelines.console import options


def update(
    data: options.Data,
    model: options.Address = "",
    params: Overrides = "",
    out: Annotated[Path, typer.Option(help="where page, model and numbers go")] = Path("outputs/update"),
) -> None:
    """Add new labelled images to a model, examine it on old and new, and register it."""
    updating.update(data, model, params, out)


def adapt(
    data: options.ImageFolder,
    model: options.Address = "",
    check: Annotated[str, typer.Option(help="CSV file (path, label) of labelled images of this domain")] = "",
    params: Annotated[str, typer.Option(help="adapt.field=value ...")] = "",
    out: Annotated[Path, typer.Option(help="where page, summary and model go")] = Path("outputs/adapted"),
) -> None:
    """Adapt a model to images that nobody has labelled, if that is safe."""
    adapt_folder.main(data, model, check, params, out)


def history(model: options.Address = "") -> None:
    """Show what a model has learnt, in order, and what it knows of each."""
    updating.history(model)


def forget(
    file: Annotated[Path, typer.Argument(help="CSV with a column id (sha256 of each image's bytes) or path")],
    data: Annotated[Path, typer.Argument(help="folder where these images are")],
    model: options.Address = "",
    out: Annotated[Path, typer.Option(help="where the model goes")] = Path("outputs/forget"),
) -> None:
    """Make a model that never saw some images, and check that exactly their contribution was taken out."""
    updating.forget(file, data, model, out)
