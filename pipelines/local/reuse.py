"""Results of earlier runs: a task whose code, parameters and inputs have not changed is not run again.

An entry of the cache is the task's folder, as hard links where the file system has them, and what is known about it.
Entries outlive the output folder of their run, and are removed like all of the cache (see `graft.core.cache`).
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from graft.core.atomic import read_json, replacing
from graft.core.cache import cache_root, mark_used_and_evict
from graft.core.errors import GraftError, RegistryError
from graft.runs import reused
from pipelines.local.content import all_files, content_digest, state_digest, task_key
from pipelines.local.runner import METRICS, REUSED
from pipelines.local.tasks import OUTPUT_FILE, Start, Task
from pipelines.local.time_budget import LIMITED

_FOLDER, _RECORD = "outputs", "record.json"


class Record(BaseModel):
    """What is known about the results of a task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: str
    """Where the task wrote them."""
    run: str
    """The key of the pipeline run in which the task ran."""
    digests: dict[str, str]
    """Content of each output."""
    files: str
    """`state_digest` of the entry's files."""


class Results:
    """The results of earlier tasks, and of those of this run."""

    def __init__(
        self, folder: Path | None, run: str, code: Callable[[str], str], *, force: bool = False, budget: str = ""
    ) -> None:
        """Open the cache; see `results_of_earlier_runs`."""
        self.reused: list[str] = []
        self._folder = folder
        self._run = run
        self._code = code
        self._force = force
        self._budget = budget
        self._digests: dict[Path, str] = {}
        self._last: Path | None = None

    def reusing(self, start: Start) -> Start:
        """Return `start` for tasks that have no results yet; for the others their results are put into place."""
        if self._folder is None:
            return start

        def reuse_or_start(task: Task) -> int:
            entry = self._entry(task)
            if entry and not self._force and self._reuse(task, entry):
                self.reused.append(task.step)
                print(REUSED)
                return 0
            code = start(task)
            if code == 0:
                digests = {name: content_digest(path) for name, path in task.outputs.items() if path.exists()}
                self._digests |= {task.outputs[name]: digest for name, digest in digests.items()}
                if entry:
                    self._keep(task, entry, digests)
            return code

        return reuse_or_start

    def close(self) -> None:
        """Remove the least recently used entries if there are too many."""
        if self._last:
            mark_used_and_evict(self._last)

    def _entry(self, task: Task) -> Path | None:
        inputs = {name: [self._digests.get(path, "") for path in paths] for name, paths in task.inputs.items()}
        if self._folder is None or not all(digest for digests in inputs.values() for digest in digests):
            return None
        budget = self._budget if task.step in LIMITED else ""
        key = task_key(task, inputs, self._code(task.step), reused.place(), budget)
        return self._folder / key if key else None

    def _reuse(self, task: Task, entry: Path) -> bool:
        try:
            record = Record.model_validate_json((entry / _RECORD).read_bytes())
        except (OSError, ValidationError):
            return False
        outputs = entry / _FOLDER
        if state_digest(outputs, all_files(outputs)) != record.files or not _still_registered(outputs):
            return False
        try:
            if not reused.record(self._run, task.step, record.run):
                return False
        except GraftError:  # MLflow does not answer: the step can run without it
            return False
        _link(outputs, task.folder)
        _relocate(task.folder / OUTPUT_FILE, record.folder, str(task.folder))
        self._digests |= {task.outputs[name]: digest for name, digest in record.digests.items()}
        os.utime(entry)
        self._last = entry
        return True

    def _keep(self, task: Task, entry: Path, digests: dict[str, str]) -> None:
        try:
            with replacing(entry, checksums=False) as temporary:
                temporary.mkdir()
                _link(task.folder, temporary / _FOLDER)
                files = state_digest(temporary / _FOLDER, all_files(temporary / _FOLDER))
                record = Record(folder=str(task.folder), run=self._run, digests=digests, files=files)
                (temporary / _RECORD).write_text(record.model_dump_json(indent=2), encoding="utf-8")
            self._last = entry
        except (GraftError, OSError) as error:
            print(f"{entry}: results are not kept for another run ({error})", file=sys.stderr)


@contextmanager
def results_of_earlier_runs(
    run: str, code: Callable[[str], str], *, force: bool = False, budget: str = ""
) -> Iterator[Results]:
    """Open the cache of results for one run.

    Args:
        run: the key of this pipeline run.
        code: returns the digest of a step's code.
        force: run every task, and keep its results.
        budget: of the run; the results of steps that it may limit are not those of another budget.
    """
    root = cache_root()
    results = Results(root / "steps" if root else None, run, code, force=force, budget=budget)
    yield results
    results.close()


def _still_registered(outputs: Path) -> bool:
    """Return whether a version that the results name, if any, is still in the registry under the same alias."""
    if not (outputs / "registration").is_dir():
        return True
    from graft.serving.registry import Registry

    found = read_json(outputs / METRICS)
    try:
        return found["alias"] in Registry.open(found["name"]).version(int(found["version"])).aliases
    except RegistryError:
        return False


def _link(source: Path, target: Path) -> None:
    """Make `target` the same folder as `source`, of hard links where possible and of copies elsewhere."""
    shutil.copytree(source, target, copy_function=_link_file, symlinks=True, dirs_exist_ok=True)


def _link_file(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _relocate(output_file: Path, old: str, new: str) -> None:
    """Replace the folder in KFP's record of a task's outputs."""
    values = json.loads(output_file.read_text(encoding="utf-8"), object_hook=lambda value: _moved(value, old, new))
    output_file.unlink()  # other runs' records are links to the same file
    output_file.write_text(json.dumps(values), encoding="utf-8")


def _moved(value: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    uri = value.get("uri")
    return value | {"uri": new + uri.removeprefix(old)} if isinstance(uri, str) and uri.startswith(old) else value
