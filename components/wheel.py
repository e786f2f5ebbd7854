"""Build the wheel that is installed and that the images hold: `python -m components.wheel FOLDER`."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONTENT = (
    "graft",
    "components",
    "pipelines",
    "expectations",
    "update",
    "params.yaml",
    "dvc.yaml",
    "constraints.txt",
    "setup.py",
    "pyproject.toml",
    "README.md",
    "LICENSE",
)
"""What the wheel is made of."""


def build_wheel(folder: Path, root: Path = ROOT) -> Path:
    """Build the wheel of a repository into `folder`, in place of an earlier one; return its path.

    It is built from a copy: setuptools leaves files behind, which a later build would take in. Equal files make equal
    wheels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for earlier in folder.glob("*.whl"):
        earlier.unlink()
    with tempfile.TemporaryDirectory(prefix="graft-wheel-") as copy:
        for name in CONTENT:
            source, target = root / name, Path(copy) / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".*"))
            else:
                shutil.copyfile(source, target)
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
        # 1980: the first year that a zip file knows
        environment = {"SOURCE_DATE_EPOCH": "315532800"} | os.environ
        subprocess.run([*command, "--wheel-dir", str(folder.absolute()), copy], check=True, cwd=copy, env=environment)
    (wheel,) = folder.glob("*.whl")
    return wheel


if __name__ == "__main__":
    print(build_wheel(Path(sys.argv[1])))
