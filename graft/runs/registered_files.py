"""The files of a registered model, by its address: all that steps before the registry need to know of it."""

import re
from collections.abc import Mapping
from pathlib import Path

from graft.core.checksums import SUMS_FILE, check_folder
from graft.core.digest import file_digest
from graft.core.errors import DamagedError, GraftError, RegistryError
from graft.runs import mlflow_store

FILES_TAG = "files.digest"
"""On a version: sha256 of its file of checksums, which stands for all its files."""
ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<number>[0-9]+)|@(?P<alias>[^/]+))")


def download(model_uri: str, folder: Path, uri: str | None = None) -> Path:
    """Copy the files of `models:/name/3` or `models:/name@champion` into `folder`; return where they are.

    Raises:
        RegistryError: if the model does not exist.
        DamagedError: if the files are not those that were registered.
    """
    return download_tagged(model_uri, folder, uri)[0]


def download_tagged(model_uri: str, folder: Path, uri: str | None = None) -> tuple[Path, Mapping[str, str]]:
    """Do the same; return also the tags of the version.

    Raises:
        RegistryError: if the model does not exist.
        DamagedError: if the files are not those that were registered.
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
        tags: Mapping[str, str] = dict(client.get_model_version(found["name"], str(number)).tags)
        place = Path(download_artifacts(files, dst_path=str(folder), tracking_uri=uri))
    except (MlflowException, OSError) as error:
        store = mlflow_store.without_password(uri)
        raise RegistryError(f"{model_uri}: cannot be read from {store} ({str(error).splitlines()[0]})") from error
    if FILES_TAG in tags:
        sums = place / SUMS_FILE
        if not sums.is_file() or file_digest(sums, "sha256") != tags[FILES_TAG]:
            raise DamagedError(
                f"{model_uri}: its files are not those that were registered ({SUMS_FILE} is missing or another one); "
                "do not use it; promote another version, or register it again"
            )
        check_folder(place, every_file=True)
    return place, tags
