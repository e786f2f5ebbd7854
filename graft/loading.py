"""From an address of a model to something that predicts."""

import tempfile
from pathlib import Path

from graft.bundle import ModelBundle
from graft.packing import BUNDLE
from graft.registry import download

REGISTRY_SCHEME = "models:/"


def load_model(address: str | Path) -> ModelBundle:
    """Load a bundle from a folder, or from the registry that `MLFLOW_TRACKING_URI` names.

    Args:
        address: a folder such as `outputs/model`, or `models:/name@champion`, `models:/name/3`.

    Raises:
        ModelError: if the folder holds no bundle.
        RegistryError: if the registry has no such model.
    """
    if not str(address).startswith(REGISTRY_SCHEME):
        return ModelBundle.load(address)
    with tempfile.TemporaryDirectory() as folder:
        return ModelBundle.load(download(str(address), Path(folder)) / "artifacts" / BUNDLE)
