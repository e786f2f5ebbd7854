"""The registered models: list them, serve the champion, promote or roll back by hand."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from graft.core.errors import GraftError, RegistryError
from graft.runs.params import Params
from graft.serving.registry import CHAMPION, Registry, Version

COLUMNS: dict[str, Callable[[Version], str]] = {
    "version": lambda version: str(version.number),
    "alias": lambda version: ", ".join(version.aliases),
    "registered": lambda version: time.strftime("%Y-%m-%d %H:%M", time.localtime(version.created / 1000)),
    "accuracy": lambda version: version.tags.get("test.accuracy", ""),
    "log loss": lambda version: version.tags.get("test.log_loss", ""),
    "ms": lambda version: version.tags.get("milliseconds", ""),
    "backbone": lambda version: version.tags.get("backbone", ""),
    "classes": lambda version: version.tags.get("classes", ""),
    "data": lambda version: version.tags.get("data.digest", "")[:8],
    "verdict": lambda version: version.tags.get("verdict", ""),
}

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
Name = Annotated[str, typer.Option(help="registered name; empty: register_model.name of params.yaml")]


@app.command("list")
def show(name: Name = "") -> None:
    """List the versions, newest first, with aliases, metrics and the gate's verdict."""
    with _one_line_errors():
        registry = _registry(name)
        versions = registry.versions()
        if not versions:
            raise RegistryError(f"no model {registry.name!r} in {registry.tracking_uri}; make run registers one")
        table = Table(title=registry.name, title_justify="left", box=box.SIMPLE_HEAD)
        for column in COLUMNS:
            table.add_column(column, no_wrap=column != "backbone")
        for version in versions:
            style = "bold" if CHAMPION in version.aliases else ""
            table.add_row(*(cell(version) for cell in COLUMNS.values()), style=style)
        console = Console()
        if not console.is_terminal:
            console.width = 140  # a file or a pipe has no width
        console.print(table)
        for version in versions:
            for reason in _reasons(version):
                console.print(f"{version.number}: {reason}", highlight=False, markup=False)


@app.command()
def promote(version: Annotated[int, typer.Argument(help="version number")], name: Name = "") -> None:
    """Make a version the champion regardless of the gate, after checking that it predicts as in its evaluation."""
    with _one_line_errors():
        from graft.serving.registration import check_packed_model

        registry = _registry(name)
        before = registry.champion()
        registry.promote(version, check_packed_model)
        registry.set_tags(version, {"verdict": "promoted by hand"})
        _print_champion(registry, before)


@app.command()
def rollback(name: Name = "") -> None:
    """Make the previous champion the champion again."""
    with _one_line_errors():
        from graft.serving.registration import check_packed_model

        registry = _registry(name)
        before = registry.champion()
        registry.rollback(check_packed_model)
        _print_champion(registry, before)


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="port on this machine")] = 5001,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    name: Name = "",
) -> None:
    """Serve the champion over HTTP."""
    with _one_line_errors():
        registry = _registry(name)
        champion = registry.champion()
        if champion is None:
            raise RegistryError(f"model {registry.name!r} has no champion; make models lists the versions")
        print(
            f"serving {registry.name} version {champion.number} at http://{host}:{port}/invocations\n"
            '  echo "{\\"dataframe_records\\":[{\\"image\\":\\"$(base64 -w0 picture.jpg)\\"}]}" |\n'
            f"    curl -s http://{host}:{port}/invocations -H 'Content-Type: application/json' -d @-",
            flush=True,
        )
    # The server starts uvicorn by name, which is in the folder of this interpreter.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = os.environ | {"MLFLOW_TRACKING_URI": registry.tracking_uri, "PATH": path}
    # The version, not the alias: the served model is the announced one even if the alias moves during the start.
    arguments = ["models", "serve", "-m", champion.uri, "--env-manager", "local", "-h", host, "-p", str(port)]
    os.execve(sys.executable, [sys.executable, "-m", "mlflow", *arguments], environment)


def _registry(name: str) -> Registry:
    return Registry.open(name or Params.load().register_model.name)


def _reasons(version: Version) -> Iterator[str]:
    number = 1
    while reason := version.tags.get(f"reason.{number}"):
        yield reason
        number += 1


def _print_champion(registry: Registry, before: Version | None) -> None:
    after = registry.champion()
    was = f"version {before.number}" if before else "none"
    print(f"{registry.name}: champion is version {after.number if after else 'none'} (was {was})")


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except GraftError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    app()
