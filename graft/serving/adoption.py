"""A registration that was killed: its rerun finds the version that was made and finishes it, instead of a second one.

Every version is tagged with a key of what it was made from. The run that registers a version says that it has finished
after the step's outputs are in place, and its pipeline's run after all results are. So a version of the same key is the
rerun's own if either did not finish, and if both belong to one pipeline's run, whose step was started again.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar

from graft.core.owners import is_alive
from graft.runs.abandoned import PROCESS_TAG
from graft.runs.live_log import STEP_TAG
from graft.runs.reused import REUSED_TAG

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

KEY_TAG = "graft.key"
PIPELINE_TAG, PARENT_TAG = "pipeline.run_id", "mlflow.parentRunId"
ADOPTED_TAG = "graft.adopted_by"
"""The run that finishes a version in place of the run that made it."""
_NOT_CONTENT = ("git.revision", PIPELINE_TAG)
"""Tags that differ between a run and its rerun."""


class _Version(Protocol):
    @property
    def tags(self) -> Mapping[str, str]: ...

    @property
    def run_id(self) -> str | None: ...


V = TypeVar("V", bound=_Version)


def registration_key(tags: Mapping[str, str]) -> str:
    """Return the key of a registration: equal for the same model, code, data and parameters."""
    content = sorted((name, value) for name, value in tags.items() if name not in _NOT_CONTENT)
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def find_unfinished(client: "MlflowClient", versions: Iterable[V], key: str, pipeline: str | None = None) -> V | None:
    """Return the version of this key whose registration was interrupted; None if there is none.

    Args:
        client: of the registry.
        versions: of the registered name.
        key: see `registration_key`.
        pipeline: id of the pipeline's run that registers now.
    """
    for one in versions:
        if one.tags.get(KEY_TAG) == key:
            same = pipeline is not None and one.tags.get(PIPELINE_TAG) == pipeline
            if same or _interrupted(client, one.tags.get(ADOPTED_TAG) or one.run_id):
                return one
    return None


def _interrupted(client: "MlflowClient", run_id: str | None) -> bool:
    """Return whether a run, or the pipeline's that it belongs to, did not come to its end; False if nobody can tell."""
    from mlflow.exceptions import MlflowException

    if run_id is None:
        return False
    try:
        run = client.get_run(run_id)
    except MlflowException:  # deleted
        return False
    tags, status = run.data.tags, str(run.info.status)
    if status in ("FAILED", "KILLED") or (
        status == "RUNNING" and PROCESS_TAG in tags and not is_alive(tags[PROCESS_TAG])
    ):
        return True
    return _interrupted(client, tags.get(PARENT_TAG)) and not _taken_over(client, run)


def _taken_over(client: "MlflowClient", run: "Run") -> bool:
    """Return whether a pipeline that came to its end has reused the results of a step's run."""
    reused = f"tags.`{REUSED_TAG}{run.data.tags.get(STEP_TAG, '')}` = '{run.info.run_id}'"
    where = f"{reused} and attributes.status = 'FINISHED'"
    return bool(client.search_runs([run.info.experiment_id], filter_string=where, max_results=1))
