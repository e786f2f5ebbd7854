"""Which of our modules a module consists of: itself and all that it imports, directly or through others.

What a change makes stale follows from it: cached results (`source_digest`), a stage of DVC, a task on Kubeflow; and so
does what a packed model must carry.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path

ROOT = Path(str(resources.files("graft"))).resolve().parent
"""The folder that holds the packages: the repository, or site-packages."""
PACKAGES = ("graft", "components")


def closure(*modules: str, root: Path = ROOT) -> dict[str, Path]:
    """Return the files of these modules and of every module of ours that they import, by module name, sorted.

    Imports inside functions and for type checking count. Packages themselves (`__init__.py`) do not: they import
    nothing.

    Args:
        modules: full names, such as `graft.core.cache`.
        root: the folder that holds the packages.

    Raises:
        ModuleNotFoundError: if one of `modules` has no file.
    """
    found: dict[str, Path] = {}
    waiting = list(modules)
    for name in modules:
        if _file(name, root) is None:
            raise ModuleNotFoundError(f"no file of module {name} below {root}", name=name)
    while waiting:
        name = waiting.pop()
        file = _file(name, root)
        if file is not None and name not in found:
            found[name] = file
            waiting.extend(imported(file))
    return dict(sorted(found.items()))


def imported(file: Path) -> Iterator[str]:
    """Yield the full names that a source file imports: of `from a import b` both `a` and `a.b`."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def source_digest(*modules: str, root: Path = ROOT) -> str:
    """Return the sha256 of the source of these modules and of all they import: what other code made is not reused."""
    digest = hashlib.sha256()
    for name, file in closure(*modules, root=root).items():
        content = file.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def is_module(name: str, root: Path = ROOT) -> bool:
    """Return whether a full name is that of one of our modules."""
    return _file(name, root) is not None


def _file(module: str, root: Path) -> Path | None:
    if module.partition(".")[0] not in PACKAGES:
        return None
    path = root.joinpath(*module.split(".")).with_suffix(".py")
    return path if path.is_file() else None
