"""`make doctor`: one screen about a folder of images, in seconds: how it is read, what is odd, what a run will do."""

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from graft.core.errors import DataError, GraftError
from graft.runs.params import Params


def main(
    data: Annotated[Path, typer.Argument(help="folder of images")],
    params: Annotated[str, typer.Option(help="validate_data.field=value ..., overriding params.yaml")] = "",
    file: Annotated[Path, typer.Option(help="file with the parameters")] = Path("params.yaml"),
) -> None:
    """Look at a folder of images without checking all of them, and exit with 1 if it cannot be read."""
    from graft.quality.doctor import diagnose  # late: a wrong parameter should fail before the slow imports

    try:
        section = Params.load(file, shlex.split(params)).validate_data
        if data.is_file():
            raise DataError(f"{data}: is a file; `make validate DATA={data}` checks a manifest")
        found = diagnose(data.expanduser(), section)
    except GraftError as error:
        raise SystemExit(f"doctor: {error}") from error
    console = Console(highlight=False, soft_wrap=True)
    before = ""
    for heading, text in found.lines():
        console.print(f"[bold]{heading if heading != before else '':9}[/] {escape(text)}")
        before = heading
    console.print(f"[dim]{'next':9} make validate DATA={escape(str(data))} checks every image[/]")


if __name__ == "__main__":
    typer.run(main)
