"""Where raw images came from: `source.json`, which get_data writes next to them; and the name of a data set."""

import re
import unicodedata
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

SOURCE_FILE = "source.json"
AUTO = "auto"
"""As `register_model.name`: from the data."""
_SAYS_NOTHING = frozenset(
    {"annotations", "data", "dataset", "datasets", "images", "imgs", "labels", "manifest", "metadata", "raw", "train"}
)
"""Names of files and folders that do not tell one data set from another."""
_SUFFIX = re.compile(r"(\.tar)?\.(csv|tsv|jsonl|json|xml|txt|zip|tar|tgz|gz|bz2|xz|parquet)$", re.IGNORECASE)
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

    origin: Literal["dvc", "folder", "manifest", "packed"]
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


def data_name(path: str, repo: str | None = None) -> str:
    """Return a short name of a data set: that of its folder or manifest, such as `digits` for `data/digits`.

    Args:
        path: of the folder or manifest; a relative one is below the working folder, or in the repository.
        repo: path or URL of a git repository.
    """
    place = Path(path).expanduser().absolute() if repo is None else Path(repo.removesuffix(".git")) / path
    parts = Path(_SUFFIX.sub("", str(place))).parts
    parts = tuple(part for part in parts if _slug(part))
    # The folder around may tell one data set from another better.
    telling = [part for part in parts[-2:] if part.lower() not in _SAYS_NOTHING]
    return _slug((telling or parts)[-1]) if parts else ""


def registered_name(chosen: str, data: str) -> str:
    """Return the name under which a model is registered: as chosen, or from the data, such as `graft-digits`.

    Args:
        chosen: the parameter `register_model.name`; `auto`: from the data.
        data: `data_name` of the data set; empty if it is unknown.
    """
    return chosen if chosen != AUTO else f"graft-{data}" if data else "graft"


def _slug(name: str) -> str:
    """Return the ASCII letters and digits of a name, in lower case and joined by hyphens."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
