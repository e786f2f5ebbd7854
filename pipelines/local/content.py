"""What the result of a task depends on: code, parameters, inputs and the files that parameters name, as one key."""

import hashlib
import re
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from graft.core.cache import cache_key
from graft.core.digest import file_digest, folder_digest
from graft.core.errors import DataError
from graft.data.copying import walk_files
from graft.data.manifest import SUFFIXES, read_manifest
from pipelines.local.tasks import Task

_COMMIT = re.compile(r"[0-9a-f]{40}")


def task_key(task: Task, inputs: Mapping[str, list[str]], code: str, records: str, budget: str = "") -> str | None:
    """Return the key of a task's results; None if nothing short of running the task tells what it would read.

    Args:
        task: the task.
        inputs: content digests of its inputs, by name.
        code: digest of the step's code.
        records: where its run and models are recorded.
        budget: that limits it; empty if none does.
    """
    outside = _outside(task.params)
    if outside is None:
        return None
    return cache_key(
        {
            "step": task.step,
            "component": task.source,
            "code": code,
            "params": task.params,
            "inputs": inputs,
            "outside": outside,
            "packages": _installed_packages(),
            "records": records,
            **({"budget": budget} if budget else {}),
        }
    )


def content_digest(output: Path) -> str:
    """Return a digest of the content of a file or a folder."""
    return file_digest(output) if output.is_file() else folder_digest(output)


def state_digest(folder: Path, files: Iterable[str]) -> str:
    """Return a digest of the names, inodes, modes, sizes and times of files, without reading them.

    Args:
        folder: the folder that the names are relative to.
        files: the names, in a fixed order.
    """
    digest = hashlib.sha256()
    for name in files:
        try:
            found = (folder / name).stat()
            entry = f"{name}\0{found.st_ino}\0{found.st_mode}\0{found.st_size}\0{found.st_mtime_ns}"
        except OSError as error:
            entry = f"{name}\0{error.strerror}"
        digest.update(f"{entry}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def all_files(folder: Path) -> list[str]:
    """Return the relative posix path of every file below `folder`, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _outside(params: Mapping[str, Any]) -> dict[str, str] | None:
    """Return the state of every file and folder that a parameter names; None if a parameter names a moving target."""
    if params.get("repo"):
        # A branch of a repository may have moved; a commit cannot.
        return {} if _COMMIT.fullmatch(params.get("rev") or "") else None
    found = {}
    for text in _texts(params):
        path = Path(text.rpartition("=")[2]).expanduser()
        with suppress(OSError, ValueError):
            if path.is_dir():
                found[text] = state_digest(path, [*walk_files(path), f"../{path.absolute().name}.dvc"])
            elif path.is_file():
                found[text] = state_digest(path.parent, [path.name, *_listed(path)])
    return found


def _listed(file: Path) -> list[str]:
    """Return the files that a manifest names."""
    if file.suffix.lower() not in SUFFIXES:
        return []
    with suppress(DataError):
        return [path for path in read_manifest(file, needs=("path",)).values("path") if path]
    return []


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _installed_packages() -> list[str]:
    """Return names and versions of the installed packages, from the names of their folders."""
    return sorted(folder.name for folder in Path(sysconfig.get_path("purelib")).glob("*.dist-info"))
