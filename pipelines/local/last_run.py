"""The last run in this folder, and the model that the last successful one registered: two files in `.graft`."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from graft.core.atomic import write_json, write_text

FOLDER = Path(".graft")
RUN_FILE, MODEL_FILE = "last_run.json", "last_model.json"
T = TypeVar("T", bound="_Record")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    out: str
    """The output folder, absolute."""


class LastRun(_Record):
    """A run as it was started: what `graft resume` starts again."""

    params: dict[str, Any]
    settings: dict[str, Any] = {}
    """Preset and budget."""


class LastModel(_Record):
    """The version that the last successful run registered."""

    name: str
    version: int
    alias: str

    @property
    def address(self) -> str:
        """Return its address: the champion of its name, or this version if it did not become champion."""
        champion = self.alias == "champion"
        return f"models:/{self.name}@champion" if champion else f"models:/{self.name}/{self.version}"

    def __str__(self) -> str:
        """Return what a command says that takes it."""
        return f"{self.address}, from the last run in this folder (results in {_relative(self.out)})"


def record_run(params: dict[str, Any], settings: dict[str, Any], out: Path) -> None:
    """Remember a run that starts."""
    _write(RUN_FILE, LastRun(out=str(out), params=params, settings=settings))


def record_model(name: str, version: int, alias: str, out: Path) -> None:
    """Remember the model of a run that has succeeded."""
    _write(MODEL_FILE, LastModel(out=str(out), name=name, version=version, alias=alias))


def last_run() -> LastRun | None:
    """Return the last run in this folder; None if there was none."""
    return _read(LastRun, RUN_FILE)


def last_model() -> LastModel | None:
    """Return the model of the last successful run in this folder; None if there was none."""
    return _read(LastModel, MODEL_FILE)


def _write(name: str, record: _Record) -> None:
    FOLDER.mkdir(exist_ok=True)
    if not (FOLDER / ".gitignore").exists():
        write_text(FOLDER / ".gitignore", "*\n")
    write_json(FOLDER / name, record.model_dump(mode="json"))


def _read(kind: type[T], name: str) -> T | None:
    try:
        return kind.model_validate_json((FOLDER / name).read_bytes())
    except (OSError, ValidationError):
        return None


def _relative(path: str) -> str:
    return str(Path(path).relative_to(Path.cwd())) if Path(path).is_relative_to(Path.cwd()) else path
