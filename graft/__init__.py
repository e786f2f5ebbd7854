"""Graft: from a folder of labelled images to a validated, tested, registered classifier by transfer learning.

>>> from graft import load
>>> model = load("outputs/model")  # or "models:/graft@champion"
>>> model.predict(["a.jpg", image_bytes, pil_image, array])
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graft.models.bundle import ModelBundle

__all__ = ["load"]


def load(model: str | Path) -> "ModelBundle":
    """Load a trained model from a folder, or from the registry by `models:/name@champion` or `models:/name/3`.

    Raises:
        ModelError: if the folder holds no model.
        RegistryError: if the registry has no such model.
    """
    # late: torch and MLflow cost seconds, and not every user of Graft loads a model
    from graft.serving.loading import load_model

    return load_model(model)
