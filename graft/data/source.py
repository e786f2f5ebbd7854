"""Where raw images came from: `source.json`, which get_data writes next to them."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

SOURCE_FILE = "source.json"
SkippedKind = Literal["path_escape", "broken_link", "special_file", "unreadable", "missing_file", "reserved_name"]


class Skipped(BaseModel):
    """An entry of the source that was left out, and why; `kind` is the kind of finding it becomes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    kind: SkippedKind
    reason: str


class Source(BaseModel):
    """The content of `source.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    origin: Literal["dvc", "folder", "manifest"]
    path: str
    """Path of the folder or the manifest: as given, or inside the repository."""
    repo: str | None = None
    rev: str | None = None
    """The full id of the git commit."""
    digest: str
    """DVC's digest of the files' relative paths and bytes; equal content has equal digests, however it was fetched."""
    files: int
    skipped: tuple[Skipped, ...] = ()

    def __str__(self) -> str:
        """Return a name of the source, on one line."""
        return f"{self.repo}@{(self.rev or '')[:12]}:{self.path}" if self.repo else self.path


def read_source(folder: Path) -> Source | None:
    """Return the record in `folder`, or None if there is none (a file of that name may also be the user's)."""
    try:
        return Source.model_validate_json((folder / SOURCE_FILE).read_bytes())
    except (OSError, ValidationError):
        return None
