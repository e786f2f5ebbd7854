"""Load a model from its address: a folder or an entry in the registry."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from graft.core.atomic import read_json_object
from graft.core.boundary import readable
from graft.core.errors import ModelError
from graft.models.bundle import ModelBundle
from graft.runs.mlflow_store import tracking_uri, without_password
from graft.serving.packaging import BUNDLE, EVIDENCE, NETWORK
from graft.serving.registered_content import download_checked
from graft.serving.registry import find_version
from graft.serving.server import PACK_AGAIN, SPEC_FILE
from graft.stats.decision_rule import Rule

REGISTRY_SCHEME = "models:/"


def load_model(address: str | Path) -> ModelBundle:
    """Load a trained model from a folder, or from the registry that `MLFLOW_TRACKING_URI` names.

    Without that variable the registry is `mlruns/mlflow.db` in the working folder. It is only read, and not created.

    Args:
        address: a folder such as `outputs/model`, or `models:/name@champion`, `models:/name/3`.

    Raises:
        ModelError: if the folder holds no model.
        RegistryError: if the registry has no such model; the message names the registry that was asked.

    >>> model = graft.load("outputs/model")
    >>> model.predict(["a.jpg"])["label"].tolist()
    ['cat']
    """
    if not str(address).startswith(REGISTRY_SCHEME):
        return ModelBundle.load(address)
    uri = tracking_uri()
    with tempfile.TemporaryDirectory() as folder:
        found = load_packed_bundle(download_checked(str(address), Path(folder), uri))
        return replace(found, origin=f"{address} in {without_password(uri)}")


def load_packed_bundle(folder: Path) -> ModelBundle:
    """Load the bundle inside a packed model, with the decision rule of the packed model.

    Raises:
        ModelError: if the folder holds no bundle.
    """
    artifacts = folder / "artifacts"
    served = read_json_object(artifacts / NETWORK / SPEC_FILE)
    bundle = ModelBundle.load(artifacts / BUNDLE)
    with readable(artifacts / NETWORK / SPEC_FILE, PACK_AGAIN, ModelError):
        further = zip(bundle.further, served.get("further", ()), strict=True)
        bundle = replace(bundle, further=tuple(_with_rule(one, content) for one, content in further))
        return _with_rule(bundle, served)


def _with_rule(bundle: ModelBundle, served: Mapping[str, Any]) -> ModelBundle:
    rule = served.get("rule")  # models packed without one may lack the field
    return bundle if rule is None else replace(bundle, rule=Rule.model_validate(rule))


@dataclass(frozen=True)
class FetchedModel:
    """The files of a model, wherever it came from."""

    address: str
    """`models:/name/3` for a registered one, whatever alias it was asked for by; else its folder."""
    bundle: Path
    evidence: Path | None
    """Files of its evaluation; None for a bundle's folder."""
    name: str | None = None
    """Registered name and version; None for a bundle's folder."""
    version: int | None = None

    def load(self) -> ModelBundle:
        """Load the bundle, with the decision rule that it was registered with.

        Raises:
            ModelError: if the folder holds no bundle.
        """
        return ModelBundle.load(self.bundle) if self.name is None else load_packed_bundle(self.bundle.parents[1])


def fetch_model(address: str, work: Path) -> FetchedModel:
    """Return the files of a bundle's folder or of a registered model.

    Args:
        address: a folder, `models:/name@alias` or `models:/name/version`.
        work: an empty folder for downloads.

    Raises:
        RegistryError: if the registry has no such model.
    """
    if not address.startswith(REGISTRY_SCHEME):
        return FetchedModel(address, Path(address), None)
    version = find_version(address)  # now, not once more while it is downloaded: an alias may move
    artifacts = download_checked(version.uri, work) / "artifacts"
    return FetchedModel(version.uri, artifacts / BUNDLE, artifacts / EVIDENCE, version.name, version.number)
