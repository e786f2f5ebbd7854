"""The code that each step consists of: a change in it invalidates the step's cached results.

For Kubeflow a digest of these files is an environment variable of the task, which is part of the cache key. DVC depends
on the wings that contain them, which `python -m pipelines.code` writes into `dvc.yaml`: the list stays short, at the
price of an occasional unnecessary run of a step.
"""

import hashlib
import re
from pathlib import Path

from graft.core.atomic import write_text
from graft.core.installed import home
from graft.core.source_code import PACKAGES, ROOT, import_closure

PINS = "constraints.txt"
_STAGE = re.compile(r"  (\w+):$")
_CODE = re.compile(rf"      - ({'|'.join(PACKAGES)})/")


def step_files(step: str, root: Path = ROOT) -> list[str]:
    """Return the step's module and all modules of the repository that it imports, directly or not, relative to `root`.

    Files in a folder with the name of a module (`data_page/data.css` for `data_page.py`) belong to the module.
    """
    modules = import_closure(f"components.{step}.step", root=root).values()
    beside = {data for file in modules for data in file.with_suffix("").rglob("*") if data.is_file() and _is_ours(data)}
    return sorted(path.relative_to(root).as_posix() for path in {*modules, *beside})


def step_digest(step: str, root: Path = ROOT) -> str:
    """Return a sha256 over the step's files and the pinned versions of what they import."""
    digest = hashlib.sha256()
    for name in [*step_files(step, root), PINS]:
        file = root / name
        # In a wheel the pins are beside the components.
        content = (file if file.is_file() else home() / PINS).read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def step_wings(step: str, root: Path = ROOT) -> list[str]:
    """Return the entries for `dvc.yaml`: the step's own files, and the wings of graft that it imports from."""
    files = [Path(name) for name in step_files(step, root)]
    return sorted({(file if file.parts[0] == "components" else Path(*file.parts[:2])).as_posix() for file in files})


def with_code(dvc_yaml: str, root: Path = ROOT) -> str:
    """Return the text of a `dvc.yaml` with each stage's code as its last dependencies, otherwise unchanged."""
    lines: list[str] = []
    stage = ""
    for line in dvc_yaml.splitlines():
        if named := _STAGE.match(line):
            stage = named[1]
        if line == "    params:" and stage:
            lines.extend(f"      - {file}" for file in step_wings(stage, root))
        if not _CODE.match(line):
            lines.append(line)
    return "\n".join(lines) + "\n"


def _is_ours(data: Path) -> bool:
    return "__pycache__" not in data.parts and not data.name.startswith(".")


if __name__ == "__main__":
    write_text(ROOT / "dvc.yaml", with_code((ROOT / "dvc.yaml").read_text(encoding="utf-8")))
