"""Where the pipeline's code and defaults are: the repository, or the folder `bundled` of the installed package.

The packages `components` and `pipelines`, `params.yaml` and the rest are top-level in the repository. In a wheel they
lie in `graft/bundled`, so that `site-packages` gets one new name; see `setup.py`.
"""

import os
import sys
from importlib import resources
from pathlib import Path

DISTRIBUTION = "graft-vision"
"""The name on the package index."""
PACKAGE = Path(str(resources.files("graft"))).resolve()
BUNDLED = PACKAGE / "bundled"
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DVC_NO_ANALYTICS": "1", "GX_ANALYTICS_ENABLED": "False"}


def home() -> Path:
    """Return the folder of `components`, `pipelines`, `params.yaml`, `dvc.yaml`, `update` and `expectations`."""
    return BUNDLED if BUNDLED.is_dir() else PACKAGE.parent


def default_file(name: str) -> Path:
    """Return a file of the working folder if it is there, else the default that comes with Graft.

    Args:
        name: relative path, such as `params.yaml`.
    """
    own = Path(name)
    return own if own.exists() else home() / name


def prepare_environment() -> None:
    """Let this process and those it starts import `components` and `pipelines`, find helpers, and send no telemetry."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    programs = str(Path(sys.executable).parent)  # dvc and mlflow start helpers by name
    if programs not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join(filter(None, [programs, os.environ.get("PATH")]))
    place = str(home())
    if place not in sys.path:
        sys.path.append(place)
    inherited = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if place not in inherited:
        os.environ["PYTHONPATH"] = os.pathsep.join([*inherited, place])
