"""What a step may record about itself, without knowing who keeps the record."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class Log(Protocol):
    """The record of one step: metrics, artifacts, tags. `tracking.py` keeps it in MLflow."""

    def metric(self, name: str, value: float, step: int = 0) -> None:
        """Record one number; `step` is the epoch of a learning curve."""

    def params(self, values: Mapping[str, object]) -> None:
        """Record what was decided (nested mappings are flattened with dots)."""

    def tag(self, name: str, value: str) -> None:
        """Record a searchable label."""

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a file or a folder."""

    def dataset(self, name: str, digest: str, source: str, counts: Mapping[str, int], context: str) -> None:
        """Record which data a step used: its name, digest, origin and number of images per split or class."""

    def summary(self, values: Mapping[str, float]) -> None:
        """Record the numbers that sum up the whole pipeline run, on the run all steps share."""


class SilentLog:
    """Keeps nothing: for calling a step as a plain function."""

    def metric(self, name: str, value: float, step: int = 0) -> None: ...
    def params(self, values: Mapping[str, object]) -> None: ...
    def tag(self, name: str, value: str) -> None: ...
    def artifact(self, path: Path, folder: str | None = None) -> None: ...
    def dataset(self, name: str, digest: str, source: str, counts: Mapping[str, int], context: str) -> None: ...
    def summary(self, values: Mapping[str, float]) -> None: ...
