"""The commands about registered models: list them, serve one, promote or roll back by hand."""

import time
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from graft.core.errors import RegistryError
from graft.serving.registered_version import Version
from graft.serving.registry import CHAMPION, Registry
from pipelines.arguments import one_line_errors
from pipelines.console import options
from pipelines.default_model import default_name
from pipelines.local.last_run import last_model

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

Port = Annotated[int, typer.Option(help="port on this machine", min=0, max=65535)]
Host = Annotated[str, typer.Option(help="address to listen on")]
Out = Annotated[Path, typer.Option(help="output folder of the run; corrections are kept there")]


def models(name: options.Name = "") -> None:
    """List the versions, newest first, with aliases, metrics and the gate's verdict."""
    with one_line_errors():
        registry = _registry(name)
        versions = registry.versions()
        if not versions:
            raise RegistryError(f"no model {registry.name!r} in {registry.tracking_uri}; graft run registers one")
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


def promote(version: Annotated[int, typer.Argument(help="version number")], name: options.Name = "") -> None:
    """Make a version the champion regardless of the gate, after checking that it predicts as in its evaluation."""
    with one_line_errors():
        registry = _registry(name)
        before = registry.champion()
        registry.promote(version, _check)
        registry.set_tags(version, {"verdict": "promoted by hand"})
        _print_champion(registry, before)


def rollback(name: options.Name = "") -> None:
    """Make the previous champion the champion again."""
    with one_line_errors():
        registry = _registry(name)
        before = registry.champion()
        registry.rollback(_check)
        _print_champion(registry, before)


def serve(port: Port = 5001, host: Host = "127.0.0.1", name: options.Name = "", out: Out = Path("outputs")) -> None:
    """Serve the champion over HTTP, by default that of the last run in this folder, with a page to try it.

    GRAFT_SERVE_TOKEN and GRAFT_SERVE_ORIGINS say who may ask (docs/serving.md).
    """

    def announce(address: str, champion: Version) -> None:
        print(
            f"serving {champion.name} version {champion.number} at {address}/invocations\n"
            f"  curl -F image=@picture.jpg {address}/predict\n"
            f"a page to try it: {address}/   all endpoints: {address}/docs",
            flush=True,
        )

    with one_line_errors():
        _serve_champion(port, host, name, out, announce)


def try_model(
    port: Port = 5001,
    host: Host = "127.0.0.1",
    name: options.Name = "",
    out: Out = Path("outputs"),
    opened: Annotated[bool, typer.Option("--open", help="open the page in the browser")] = False,
) -> None:
    """Show a page that takes pictures and shows the champion's answers, why, and a way to correct them."""

    def announce(address: str, champion: Version) -> None:
        print(f"try {champion.name} version {champion.number} at {address}/ (Ctrl-C ends it)", flush=True)
        if opened:
            webbrowser.open(address)

    with one_line_errors():
        _serve_champion(port, host, name, out, announce)


def _serve_champion(port: int, host: str, name: str, out: Path, announce: Callable[[str, Version], None]) -> None:
    from graft.web.listening import taken_port

    with taken_port(host, port) as taken:  # before what takes long: a port in use is said at once
        from graft.serving.limits import Limits
        from graft.web.settings import Settings, from_environment
        from graft.web.starting import serve_version

        registry = _registry(name)
        champion = registry.champion() or _last_version(registry, name)
        if champion is None:
            raise RegistryError(f"model {registry.name!r} has no champion; graft models lists the versions")
        token, origins = from_environment()
        settings = Settings(token, origins, Limits.from_environment(), corrections=out / "corrections", run=out)
        serve_version(registry, champion, settings, taken, lambda address: announce(address, champion))


def _last_version(registry: Registry, name: str) -> Version | None:
    """Return what the last run here registered, if no name was given."""
    last = None if name else last_model()
    return registry.version(last.version) if last else None


def _check(folder: Path) -> float:
    """Check that a registered model predicts as in its evaluation, whatever its task is."""
    from graft.serving.packaging import BUNDLE
    from graft.tasks.pixels import pixel_task

    if pixel_task(folder / "artifacts" / BUNDLE) is not None:
        from graft.pixel_serving.pixel_registration import check_packed_pixels

        return check_packed_pixels(folder)
    from graft.serving.registration import check_packed_model

    return check_packed_model(folder)


def _registry(name: str) -> Registry:
    return Registry.open(name or default_name())


def _reasons(version: Version) -> Iterator[str]:
    number = 1
    while reason := version.tags.get(f"reason.{number}"):
        yield reason
        number += 1


def _print_champion(registry: Registry, before: Version | None) -> None:
    after = registry.champion()
    was = f"version {before.number}" if before else "none"
    print(f"{registry.name}: champion is version {after.number if after else 'none'} (was {was})")
