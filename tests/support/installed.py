"""An environment with a wheel of Graft and only the packages that one of its extras asks for.

Packages are links to those of the environment that runs the tests, so that making one takes seconds and no network.
"""

import os
import re
import subprocess
import sys
import venv
from collections import deque
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement


def install(wheel: Path, extra: str, folder: Path) -> Path:
    """Make an environment with the wheel and what `extra` asks for, one or several with commas; return its `bin`."""
    venv.create(folder, symlinks=True)
    packages = next(folder.glob("lib/*/site-packages"))
    into = ["--python", str(folder / "bin" / "python"), "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    # In the repository, or with it on PYTHONPATH, pip would take the metadata there for an installed package.
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-m", "pip", *into, str(wheel)], cwd=folder, env=own, check=True)
    (metadata,) = packages.glob("*.dist-info")
    for name in closure(Distribution.at(metadata), extra):
        _link(distribution(name), packages)
    return folder / "bin"


def closure(own: Distribution, extra: str) -> list[str]:
    """Return the names of all distributions that a distribution asks for with an extra, and those ask for in turn."""
    found: dict[tuple[str, str], None] = {}
    queue = deque((own, one) for one in extra.split(","))
    names: dict[str, None] = {}
    while queue:
        asking, wanted = queue.popleft()
        for line in asking.requires or ():
            requirement = Requirement(line)
            if requirement.marker and not any(requirement.marker.evaluate({"extra": one}) for one in ("", wanted)):
                continue
            name = re.sub(r"[-_.]+", "-", requirement.name).lower()
            for inner in ("", *sorted(requirement.extras)):
                if (name, inner) in found:
                    continue
                found[name, inner] = None
                if name == re.sub(r"[-_.]+", "-", str(own.metadata["Name"])).lower():
                    queue.append((own, inner))
                else:
                    names[name] = None
                    queue.append((distribution(name), inner))
    return list(names)


def _link(package: Distribution, packages: Path) -> None:
    """Link what a distribution has in `site-packages`: its packages, modules and metadata."""
    source = Path(str(package.locate_file("")))
    for name in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
        if not (packages / name).is_symlink():
            (packages / name).symlink_to(source / name)
