"""The files of a registered model, by its address: all that steps before the registry need to know of it."""

import re
from pathlib import Path

from graft.core.errors import GraftError, RegistryError
from graft.runs import mlflow_store

ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<number>[0-9]+)|@(?P<alias>[^/]+))")


def download(model_uri: str, folder: Path, uri: str | None = None) -> Path:
    """Copy the files of `models:/name/3` or `models:/name@champion` into `folder`; return where they are.

    Raises:
        RegistryError: if the model does not exist.
    """
    uri = uri or mlflow_store.tracking_uri()
    found = ADDRESS.fullmatch(model_uri)
    if not found:
        raise RegistryError(f"{model_uri}: not a registered model; write models:/name@champion or models:/name/3")
    try:
        client = mlflow_store.open_existing(uri)
    except GraftError as error:
        raise RegistryError(f"{model_uri}: {error}") from error
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        number = found["number"] or client.get_model_version_by_alias(found["name"], found["alias"]).version
        # Resolved here: MLflow would look up models:/ addresses in the store of the environment and ignore `uri`.
        files = client.get_model_version_download_uri(found["name"], str(number))
        return Path(download_artifacts(files, dst_path=str(folder), tracking_uri=uri))
    except (MlflowException, OSError) as error:
        store = mlflow_store.without_password(uri)
        raise RegistryError(f"{model_uri}: cannot be read from {store} ({str(error).splitlines()[0]})") from error
