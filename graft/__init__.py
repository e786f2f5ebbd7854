"""Graft: from a folder of labelled images to a validated, tested, registered classifier by transfer learning.

>>> import graft
>>> diagnosis = graft.doctor("photos")  # some seconds: how the folder is read, what is odd, how long a run takes
>>> result = graft.fit("photos", preset="quick")  # the whole pipeline, as `graft run photos` runs it
>>> result.metrics["accuracy"]
1.0
>>> result.model.predict("a.jpg")["label"].tolist()
['cat']
>>> graft.load("outputs/model")  # a folder, or models:/name@champion
Model of 2 labels: cat, dog
tf_efficientnet_lite0 up to ..., 32 x 32 pixels; ... M parameters
from outputs/model

Nothing is imported until one of these is used.
"""

from importlib import import_module
from typing import Any

_PLACES = {
    "fit": "pipelines.api.fitting",
    "validate": "pipelines.api.checking",
    "doctor": "pipelines.api.checking",
    "Result": "pipelines.api.result",
    "update": "pipelines.api.changing",
    "adapt": "pipelines.api.changing",
    "Progress": "pipelines.api.progress",
    "load": "graft.serving.loading",
}
"""Where what `import graft` offers is defined: by name, because the library does not depend on the pipelines."""
_NAMES = {"load": "load_model"}
__all__ = ["Progress", "Result", "adapt", "doctor", "fit", "load", "update", "validate"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'graft' has no attribute {name!r}")
    import_module("graft.core.installed").prepare_environment()
    return getattr(import_module(_PLACES[name]), _NAMES.get(name, name))


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
