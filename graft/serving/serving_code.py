"""The modules of Graft that a served model needs, as a package of their own with pinned requirements."""

import hashlib
import inspect
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

from graft.core.atomic import write_text
from graft.core.source_code import import_closure, imported_names, is_module
from graft.tasks.single_label import SingleLabel
from graft.tasks.task import Task

PACKAGE = "graft"
SERVING_MODULE = "graft.serving.mlflow_model"
TASKS = "graft.tasks"
_NOTHING: Mapping[str, Path] = MappingProxyType({})
# Import name -> name of the distribution, where the two differ.
DISTRIBUTIONS = {"PIL": "pillow"}
OWN_IMPORT = re.compile(r"^(\s*(?:from|import)\s+)graft(?=[.\s])", re.MULTILINE)


@dataclass(frozen=True)
class ServingCode:
    """The modules that a served model needs, by module name, with the distributions they import."""

    sources: Mapping[str, str]
    requirements: tuple[str, ...]
    task_module: str = ""
    """The module that registers the task when it is imported."""

    @property
    def digest(self) -> str:
        """Return the sha256 of all sources."""
        content = "\0".join(f"{name}\0{text}" for name, text in sorted(self.sources.items()))
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def package(self) -> str:
        """Return the name of the package in the packed model."""
        return f"graft_{self.digest[:12]}"

    def write(self, folder: Path) -> Path:
        """Write the modules as a package into `folder`, in the same subfolders as in Graft; return its folder."""
        package = folder / self.package
        for name, text in self.sources.items():
            file = package.joinpath(*name.split(".")[1:]).with_suffix(".py")
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, OWN_IMPORT.sub(rf"\1{self.package}", text))
        for inner in [package, *(path for path in package.rglob("*") if path.is_dir())]:
            write_text(inner / "__init__.py", "")
        write_text(package / "__init__.py", f'"""The Graft modules that the model needs (sha256 {self.digest})."""\n')
        return package


def serving_code(task: type[Task] = SingleLabel) -> ServingCode:
    """Collect the code of a server: its module, the module of the task, and every Graft module that they import.

    A task that is defined outside Graft is packed as a module of `graft.tasks`: its module may import only Graft and
    installed packages, and must `register` the task.
    """
    module, own = task.__module__, {}
    if not module.startswith(f"{PACKAGE}."):
        file = Path(inspect.getfile(task))
        module = f"{TASKS}.{file.stem}"
        own = {module: file}
    named = [name for file in own.values() for name in imported_names(file)] if own else [module]
    code = code_of(SERVING_MODULE, *filter(is_module, named), own=own)
    return replace(code, task_module=module.removeprefix(f"{PACKAGE}."))


def code_of(*modules: str, own: Mapping[str, Path] = _NOTHING) -> ServingCode:
    """Collect modules of Graft, all that they import of it, and files of others under a module's name."""
    files = {**import_closure(*modules), **own}
    libraries = {name.partition(".")[0] for file in files.values() for name in imported_names(file)}
    third_party = sorted(libraries - sys.stdlib_module_names - {PACKAGE})
    pins = tuple(_pin(DISTRIBUTIONS.get(name, name)) for name in third_party)
    sources = {name: file.read_text(encoding="utf-8") for name, file in files.items()}
    return ServingCode(sources, pins)


def _pin(distribution: str) -> str:
    """Return the installed version as a requirement, without its local part: `2.1+cpu` is on one index alone."""
    return f"{distribution}=={version(distribution).partition('+')[0]}"
