"""A registration that was killed: its rerun finds the version that was made and finishes it, instead of a second one.

Every version is tagged with a key of what it was made from. The run that registers a version says that it has finished
after the step's outputs are in place, so a version of the same key whose run did not finish is the rerun's own.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar

from graft.core.owners import is_alive
from graft.runs.abandoned import PROCESS_TAG

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

KEY_TAG = "graft.key"
ADOPTED_TAG = "graft.adopted_by"
"""The run that finishes a version in place of the run that made it."""
_NOT_CONTENT = ("git.revision", "pipeline.run_id")
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


def find_unfinished(client: "MlflowClient", versions: Iterable[V], key: str) -> V | None:
    """Return the version of this key whose registration was interrupted; None if there is none.

    Args:
        client: of the registry.
        versions: of the registered name.
        key: see `registration_key`.
    """
    return next((one for one in versions if one.tags.get(KEY_TAG) == key and _interrupted(client, one)), None)


def _interrupted(client: "MlflowClient", version: _Version) -> bool:
    from mlflow.exceptions import MlflowException

    owner = version.tags.get(ADOPTED_TAG) or version.run_id
    if owner is None:  # nobody can tell
        return False
    try:
        run = client.get_run(owner)
    except MlflowException:  # deleted
        return False
    if run.info.status == "RUNNING":
        return PROCESS_TAG in run.data.tags and not is_alive(run.data.tags[PROCESS_TAG])
    return str(run.info.status) in ("FAILED", "KILLED")
