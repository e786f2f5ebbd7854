"""What a step may record about itself, independent of where the record is stored."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class Log(Protocol):
    """The record of one step: metrics, artifacts, tags. `tracking.py` stores it in MLflow."""

    def metric(self, name: str, value: float, step: int = 0) -> None:
        """Record one number; `step` is the epoch of a learning curve."""

    def params(self, values: Mapping[str, object]) -> None:
        """Record parameters and decisions (nested mappings are flattened with dots)."""

    def tag(self, name: str, value: str) -> None:
        """Record a searchable label."""

    def artifact(self, path: Path, folder: str | None = None, *, shared: bool = False) -> None:
        """Store a file or a folder; `shared`: on the run that all steps share as well."""

    def dataset(self, name: str, digest: str, source: str, counts: Mapping[str, int], context: str) -> None:
        """Record which data a step used: its name, digest, origin and number of images per split or class."""

    def summary(self, values: Mapping[str, float]) -> None:
        """Record the summary metrics of the pipeline, on the run that all steps share."""

    def describe(self, name: str, text: str) -> None:
        """Name the run that all steps share, unless the user did, and describe it (`text` is Markdown)."""


class TaskLog:
    """The record of a step about one of several tasks: its numbers and decisions are under `tasks.<name>`."""

    def __init__(self, log: Log, task: str) -> None:
        self._log, self._task = log, task

    def metric(self, name: str, value: float, step: int = 0) -> None:
        """Record a number of the task."""
        self._log.metric(f"tasks.{self._task}.{name}", value, step)

    def params(self, values: Mapping[str, object]) -> None:
        """Record decisions about the task."""
        self._log.params({"tasks": {self._task: values}})

    def tag(self, name: str, value: str) -> None:
        """Record a searchable label of the task."""
        self._log.tag(f"tasks.{self._task}.{name}", value)

    def artifact(self, path: Path, folder: str | None = None, *, shared: bool = False) -> None:
        """Store a file or a folder."""
        self._log.artifact(path, folder, shared=shared)

    def dataset(self, name: str, digest: str, source: str, counts: Mapping[str, int], context: str) -> None:
        """Record which data the step used."""
        self._log.dataset(name, digest, source, counts, context)

    def summary(self, values: Mapping[str, float]) -> None:
        """Record summary metrics of the task."""
        self._log.summary({f"tasks.{self._task}.{name}": value for name, value in values.items()})

    def describe(self, name: str, text: str) -> None:
        """Describe the run, as the log itself does."""
        self._log.describe(name, text)


class SilentLog:
    """Records nothing: for calling a step as a plain function."""

    def metric(self, name: str, value: float, step: int = 0) -> None: ...
    def params(self, values: Mapping[str, object]) -> None: ...
    def tag(self, name: str, value: str) -> None: ...
    def artifact(self, path: Path, folder: str | None = None, *, shared: bool = False) -> None: ...
    def dataset(self, name: str, digest: str, source: str, counts: Mapping[str, int], context: str) -> None: ...
    def summary(self, values: Mapping[str, float]) -> None: ...
    def describe(self, name: str, text: str) -> None: ...
