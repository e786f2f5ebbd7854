"""The MLflow store of runs and models: an sqlite file under `mlruns/`, or what `MLFLOW_TRACKING_URI` names."""

import fcntl
import hashlib
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from graft.core.credentials import mask_credentials
from graft.core.errors import GraftError
from graft.core.temporaries import machine_temporaries
from graft.runs.store_file import database_file, ensure_complete

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

EXPERIMENT = "graft"
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""How MLflow's pages tell an experiment that trains models from one that traces language models."""
FIRST_CALL = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
"""A server that is not there is known at once; one that is busy has half a minute."""
RECORDING = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"}
"""What cannot be recorded within some fifteen seconds is kept and delivered later; MLflow alone waits four minutes."""


def tracking_uri() -> str:
    """Return the store of runs and models: `MLFLOW_TRACKING_URI`, else an sqlite file under `mlruns/`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('mlruns/mlflow.db').absolute()}"


def open_client(uri: str | None = None) -> "MlflowClient":
    """Open the tracking server or database; a local file is created if it is missing.

    Raises:
        GraftError: if it does not answer or refuses; the message names the URI.
    """
    uri = uri or tracking_uri()
    quiet_mlflow()
    from mlflow.tracking import MlflowClient

    database = database_file(uri)
    # Processes that open an empty database at the same time would each create its tables.
    with usable_store(uri), locked(uri), patience(FIRST_CALL):
        if database:
            ensure_complete(database)
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)
    return client


@contextmanager
def usable_store(uri: str) -> Iterator[None]:
    """Say what is wrong with a store in one line.

    Raises:
        GraftError: if it does not answer or refuses; the message names the URI.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
        raise GraftError(
            f"MLflow at {without_password(uri)} {describe_failure(error)}; "
            "start it, or correct MLFLOW_TRACKING_URI (unset: mlruns/mlflow.db)"
        ) from error


def open_existing(uri: str | None = None) -> "MlflowClient":
    """Open a store to read from it: a local file that is missing is an error, and nothing is created.

    Raises:
        GraftError: if it is missing, does not answer or refuses; the message names the URI.
    """
    uri = uri or tracking_uri()
    database = database_file(uri)
    if database and not database.is_file():
        raise GraftError(
            f"no models in {without_password(uri)}: there is no such file; a run keeps its models in mlruns/ of the "
            "folder it runs in: go there, or set MLFLOW_TRACKING_URI"
        )
    return open_client(uri)


def quiet_mlflow() -> None:
    """Turn off MLflow's telemetry, and its messages about every migration and download."""
    for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"):
        os.environ.setdefault(name, "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow  # it sets its log levels when it is imported: ours must come after  # noqa: F401

    for name in ("alembic", "mlflow.pyfunc"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It prints the traceback of every error that it also raises.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def experiment_id(client: "MlflowClient", uri: str) -> str:
    """Return the id of the experiment that the environment names, created if missing."""
    from mlflow.exceptions import MlflowException

    if os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return os.environ["MLFLOW_EXPERIMENT_ID"]
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    found = client.get_experiment_by_name(name)
    if found is None:
        database = database_file(uri)
        artifacts = (database.parent / "artifacts").as_uri() if database else None
        try:
            return str(client.create_experiment(name, artifact_location=artifacts, tags=KIND))
        except MlflowException:  # another process was first
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def find_run(client: "MlflowClient", run_id: str) -> "Run | None":
    """Return a run; None if there is none of this id."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id)
    except MlflowException:
        return None


def is_on_this_machine(uri: str) -> bool:
    """Return whether runs and models are kept in a file of this machine, not on a server."""
    return database_file(uri) is not None


@contextmanager
def locked(uri: str) -> Iterator[None]:
    """Let one process of this machine at a time change what other users of the store rely on."""
    database = database_file(uri)
    if database:
        try:
            (database.parent / "artifacts").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise GraftError(f"{database.parent}: cannot keep runs here ({error.strerror})") from error
        lock = database.with_name(f"{database.name}.lock")
    else:
        name = hashlib.sha256(uri.encode()).hexdigest()[:16]
        lock = machine_temporaries() / f"graft-{os.getuid()}-{name}.lock"
    try:
        file = lock.open("w")
    except OSError as error:
        raise GraftError(f"{lock.parent}: cannot keep runs here ({error.strerror})") from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def patience(values: Mapping[str, str]) -> Iterator[None]:
    """Set how long MLflow's client waits, in its own variables, where the user has not."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def describe_failure(error: Exception) -> str:
    """Return what is wrong with a store, as the predicate of a sentence that starts with its name."""
    text = str(error) or type(error).__name__
    if isinstance(error, ImportError):
        return f"needs the package {error.name or text}, which is not installed"
    if "Max retries exceeded" in text or "failed with exception" in text:
        return "does not answer"
    if "filesystem tracking backend" in text:
        return "is a folder of files, which MLflow no longer supports: use sqlite:///<path>/mlflow.db"
    return f"cannot be used ({without_password(text.splitlines()[0])[:300]})"


def store_fault(error: BaseException) -> str | None:
    """Return one line about an error of MLflow or its database; None: it is something else."""
    seen: set[int] = set()
    fault: BaseException | None = error
    while fault is not None and id(fault) not in seen:
        seen.add(id(fault))
        library = type(fault).__module__.partition(".")[0]
        if isinstance(fault, Exception) and library in ("mlflow", "sqlalchemy", "sqlite3", "alembic"):
            return (
                f"MLflow at {without_password(tracking_uri())} {describe_failure(fault)}; restore a backup or start it"
            )
        fault = fault.__cause__ or fault.__context__
    return None


def without_password(uri: str) -> str:
    """Return a URI, or a text that contains one, without user name and password."""
    return mask_credentials(uri).replace("***@", "")
