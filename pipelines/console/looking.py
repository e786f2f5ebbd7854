"""The command `doctor`: in seconds, how a folder of images is read, what is odd, and what a run will do."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from graft.core.errors import DataError, GraftError
from graft.params.get_data import GetDataParams
from graft.params.overrides import split_overrides
from graft.params.params import Params
from pipelines.local.checks import check_source


def doctor(
    data: Annotated[Path, typer.Argument(help="folder of images, manifest, or packed set", show_default=False)],
    params: Annotated[str, typer.Option(help="validate_data.field=value ..., overriding params.yaml")] = "",
    file: Annotated[Path | None, typer.Option(help="file with the parameters; default: params.yaml")] = None,
) -> None:
    """Look at a folder of images without checking all of them, and exit with 1 if it cannot be read."""
    try:
        section = Params.load(file, split_overrides(params)).validate_data
        check_source(GetDataParams(source=str(data)))
        if section.task != "classify":
            raise DataError(f"a first look at task {section.task} is not there; `graft validate {data}` checks all")
        from graft.data.fetch import as_folder  # late: a mistake should be told before the slow imports
        from graft.quality.doctor import diagnose

        with as_folder(data.expanduser()) as root:
            found = diagnose(root, section)
    except GraftError as error:
        raise SystemExit(f"doctor: {error}") from error
    console = Console(highlight=False, soft_wrap=True)
    before = ""
    for heading, text in found.lines():
        console.print(f"[bold]{heading if heading != before else '':9}[/] {escape(text)}")
        before = heading
    console.print(f"[dim]{'next':9} graft validate {escape(str(data))} checks every image[/]")
