"""What results depend on besides data and parameters: the git revision and the package versions."""

import os
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from graft.core.installed import DISTRIBUTION

REVISION_TAG = "mlflow.source.git.commit"  # the name MLflow's own pages show
RECORDED_PACKAGES = (DISTRIBUTION, "torch", "torchvision", "timm", "mlflow")


def environment_tags() -> dict[str, str]:
    """Return the git revision and the package versions that results depend on, without importing the packages."""
    tags = {"env.python": platform.python_version(), "env.platform": platform.platform()}
    for package in RECORDED_PACKAGES:
        with suppress(PackageNotFoundError):
            tags[f"env.{package}"] = version(package)
    return tags | ({REVISION_TAG: found} if (found := git_revision()) else {})


def git_revision() -> str | None:
    """Return the commit of the working folder, with `-dirty` if it was changed; in an image, `GRAFT_REVISION`."""
    if os.environ.get("GRAFT_REVISION"):
        return os.environ["GRAFT_REVISION"]
    with suppress(OSError, subprocess.SubprocessError):
        commit = _git("rev-parse", "HEAD")
        return commit + ("-dirty" if _git("status", "--porcelain", "--untracked-files=no") else "")
    return None


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
