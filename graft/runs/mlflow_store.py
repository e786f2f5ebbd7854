"""Where runs and models are kept: an sqlite file under `mlruns/`, or what `MLFLOW_TRACKING_URI` names."""

import fcntl
import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from graft.core.errors import GraftError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

EXPERIMENT = "graft"
FIRST_CALL = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


def tracking_uri() -> str:
    """Return where runs and models are kept: `MLFLOW_TRACKING_URI`, else an sqlite file under `mlruns/`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('mlruns/mlflow.db').absolute()}"


def open_client(uri: str | None = None) -> "MlflowClient":
    """Open the tracking server or database, which is made if it is a local file that is not there yet.

    Raises:
        GraftError: if it does not answer or refuses, naming the URI.
    """
    uri = uri or tracking_uri()
    hush()
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    try:
        # Processes that meet an empty database at once would each make its tables.
        with locked(uri), _environment({k: v for k, v in FIRST_CALL.items() if k not in os.environ}):
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            client.search_experiments(max_results=1)
    except (MlflowException, OSError) as error:
        raise GraftError(
            f"MLflow at {without_password(uri)} {told(error)}; "
            "start it, or mend MLFLOW_TRACKING_URI (unset: mlruns/mlflow.db)"
        ) from error
    return client


def hush() -> None:
    """Keep MLflow from looking a host up for its telemetry, and from telling of every migration and download."""
    for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"):
        os.environ.setdefault(name, "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow  # it sets the levels of its loggers when it is imported: ours must come after  # noqa: F401

    for name in ("alembic", "mlflow.store.db.utils", "mlflow.pyfunc"):
        logging.getLogger(name).setLevel(logging.WARNING)


def experiment_id(client: "MlflowClient", uri: str) -> str:
    """Return the experiment that the environment names, made if it is not there."""
    from mlflow.exceptions import MlflowException

    if os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return os.environ["MLFLOW_EXPERIMENT_ID"]
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    found = client.get_experiment_by_name(name)
    if found is None:
        database = _database(uri)
        artifacts = (database.parent / "artifacts").as_uri() if database else None
        try:
            return str(client.create_experiment(name, artifact_location=artifacts))
        except MlflowException:  # another process was first
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def _database(uri: str) -> Path | None:
    """Return the file of an sqlite URI."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


@contextmanager
def locked(uri: str) -> Iterator[None]:
    """Let one process of this machine at a time change what others of the store's users rely on."""
    database = _database(uri)
    if database:
        try:
            (database.parent / "artifacts").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise GraftError(f"{database.parent}: cannot keep runs here ({error.strerror})") from error
        lock = database.with_name(f"{database.name}.lock")
    else:
        name = hashlib.sha256(uri.encode()).hexdigest()[:16]
        lock = Path(tempfile.gettempdir()) / f"graft-{os.getuid()}-{name}.lock"
    try:
        file = lock.open("w")
    except OSError as error:
        raise GraftError(f"{lock.parent}: cannot keep runs here ({error.strerror})") from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            os.environ.pop(name, None)


def told(error: Exception) -> str:
    """Return what is wrong with a store, to follow its name."""
    text = str(error) or type(error).__name__
    if "Max retries exceeded" in text or "failed with exception" in text:
        return "does not answer"
    if "filesystem tracking backend" in text:
        return "is a folder of files, which MLflow no longer takes: use sqlite:///<path>/mlflow.db"
    return f"cannot be used ({without_password(text.splitlines()[0])[:300]})"


def without_password(uri: str) -> str:
    """Return the URI, or a text with one, without the password it may carry."""
    return re.sub(r"//[^/@\s]*@", "//", uri)
