"""The source files that a module depends on: its own and those of all our modules it imports, directly or indirectly.

They decide what a code change invalidates (cached results through `source_digest`, DVC stages, Kubeflow tasks) and
which code a packed model must include.
"""

import ast
import hashlib
import os
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path

from graft.core.installed import BUNDLED, PACKAGE

ROOT = PACKAGE.parent
"""The folder that holds the packages: the repository, or site-packages."""
PACKAGES = ("graft", "components")
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
"""Where statements lie inside others."""
BUNDLED_FOLDER = BUNDLED.relative_to(ROOT)


def import_closure(*modules: str, root: Path = ROOT) -> dict[str, Path]:
    """Return the files of these modules and of all our modules that they import, by module name, sorted.

    Imports inside functions and for type checking count. `__init__.py` files do not: they import nothing.

    Args:
        modules: full names, such as `graft.core.cache`.
        root: the folder that holds the packages.

    Raises:
        ModuleNotFoundError: if one of `modules` has no file.
    """
    found: dict[str, Path] = {}
    seen: set[str] = set()
    queue = list(modules)
    for name in modules:
        if _file(name, root) is None:
            raise ModuleNotFoundError(f"no file of module {name} below {root}", name=name)
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        seen.add(name)
        if (file := _file(name, root)) is not None:
            found[name] = file
            queue.extend(imported_names(file))
    return dict(sorted(found.items()))


def imported_names(file: Path) -> tuple[str, ...]:
    """Return the full names that a source file imports; for `from a import b`, both `a` and `a.b`."""
    return _names_in(file.read_bytes())


@lru_cache(maxsize=2048)  # the closures of several modules share most of their files
def _names_in(source: bytes) -> tuple[str, ...]:
    return tuple(_each_name(ast.parse(source)))


def _each_name(tree: ast.Module) -> Iterator[str]:
    # Statements alone: nine nodes in ten are expressions, which import nothing.
    queue: list[ast.AST] = [tree]
    while queue:
        node = queue.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        for block in _BLOCKS:
            queue.extend(getattr(node, block, ()))


@cache
def source_digest(*modules: str, root: Path = ROOT) -> str:
    """Return the sha256 of the source of these modules and of all they import: results of other code are not reused."""
    digest = hashlib.sha256()
    for name, file in import_closure(*modules, root=root).items():
        content = file.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def is_module(name: str, root: Path = ROOT) -> bool:
    """Return whether a full name is one of our modules."""
    return _file(name, root) is not None


def _file(module: str, root: Path) -> Path | None:
    if module.partition(".")[0] not in PACKAGES:
        return None
    # In a wheel the components are inside the package.
    places = (f"{place}/{module.replace('.', '/')}.py" for place in (root, root / BUNDLED_FOLDER))
    # Thousands of names are looked up, most of them functions: paths of pathlib would take most of the time.
    return next((Path(path) for path in places if os.path.isfile(path)), None)  # noqa: PTH113
