"""The command `validate`: the verdict on a folder of images, without the rest of the pipeline or an MLflow run."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from graft.core.errors import GraftError
from graft.params.get_data import GetDataParams
from graft.params.overrides import split_overrides
from graft.params.params import Params
from graft.params.validate_data import ValidateDataParams
from pipelines.console import options
from pipelines.local.checks import check_source

if TYPE_CHECKING:
    from graft.quality.validation import Validation

MARKS = {"fail": "[red]✕[/]", "warn": "[yellow]![/]", "info": "[dim]·[/]"}


def validate(
    data: options.Data,
    out: Annotated[Path, typer.Option(help="folder for the page and the findings")] = Path("outputs/data"),
    params: Annotated[str, typer.Option(help="validate_data.field=value ..., overriding params.yaml")] = "",
    file: Annotated[Path | None, typer.Option(help="file with the parameters; default: params.yaml")] = None,
) -> None:
    """Examine and check images, write a page about them, and exit with 1 if the verdict is fail."""
    try:
        section = Params.load(file, split_overrides(params)).validate_data
        check_source(GetDataParams(source=data))
        verdict = _validate(data, out, section)
    except GraftError as error:
        raise SystemExit(f"validate: {error}") from error
    if verdict == "fail":
        raise SystemExit(1)


def _validate(data: str, out: Path, params: ValidateDataParams) -> str:
    validation, page = check(data, out, params, say=lambda text: _console().print(escape(text)))
    _show(validation, page, params.task)
    return validation.verdict


def check(data: str, out: Path, params: ValidateDataParams, say: Callable[[str], None]) -> "tuple[Validation, Path]":
    """Check the images of a folder or a manifest; return what is known about them and the page that was written.

    Args:
        data: the folder or manifest.
        out: folder for the page and the findings.
        params: the section.
        say: called with each line about what is decided on the way.
    """
    # late: a wrong parameter should fail before the slow import of Great Expectations
    from graft.data.fetch import as_folder
    from graft.pixel_quality.validators import validator
    from graft.reports.data_page import PAGE, write_page

    with as_folder(Path(data).expanduser()) as root:
        validation = validator(params.task)(root, params, say=say)
        write_page(validation, out)
    return validation, out / PAGE


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def _show(validation: "Validation", page: Path, task: str) -> None:
    console = _console()
    counts = ", ".join(f"{split} {sum(of.values()):,}" for split, of in validation.counts.items())
    kept = validation.inventory.kept
    of = f" of {kept['label'].nunique():,} classes" if task == "classify" else ""
    console.print(f"{len(kept):,} images{of} ({counts or 'none'})")
    for text in validation.inventory.listing.warnings:
        console.print(f"{MARKS['warn']} {escape(text)}")
    for finding in validation.findings:
        console.print(f"{MARKS[finding.severity]} {escape(finding.message)}")
        if finding.severity != "info":
            console.print(f"  [dim]{escape(finding.remedy)}[/]")
    colour = {"pass": "green", "warn": "yellow", "fail": "red"}[validation.verdict]
    console.print(f"verdict: [bold {colour}]{validation.verdict}[/]   page: {escape(str(page))}")
