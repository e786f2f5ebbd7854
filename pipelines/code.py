"""Which source files a step consists of: a change in one of them, and in no other, makes its cached results stale.

DVC reads them as dependencies, which `python -m pipelines.code` writes into `dvc.yaml`; Kubeflow as a digest in the
task's environment, which is part of its cache key.
"""

import ast
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from graft.core.atomic import write_text

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("graft", "components")
PINS = "constraints.txt"
_STAGE = re.compile(r"  (\w+):$")
_CODE = re.compile(rf"      - ({'|'.join(PACKAGES)})/")


def step_files(step: str, root: Path = ROOT) -> list[str]:
    """Return the step's own module and all of ours that it imports, directly or not, as paths relative to `root`.

    Imports inside functions count. Files that stand beside a module under its name (`report.py`, `report/page.html`)
    belong to it.
    """
    found: set[Path] = set()
    queue = [root / "components" / step / "step.py"]
    while queue:
        file = queue.pop()
        if file not in found:
            found.add(file)
            queue.extend(_imported(file, root))
    beside = {data for file in found for data in file.with_suffix("").rglob("*") if data.is_file() and _is_ours(data)}
    return sorted(path.relative_to(root).as_posix() for path in found | beside)


def step_digest(step: str, root: Path = ROOT) -> str:
    """Return a sha256 over the step's files and the pinned versions of what they import."""
    digest = hashlib.sha256()
    for name in [*step_files(step, root), PINS]:
        content = (root / name).read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def with_code(dvc_yaml: str, root: Path = ROOT) -> str:
    """Return the text of a `dvc.yaml` with each stage's code as its last dependencies; the rest stays as it is."""
    lines: list[str] = []
    stage = ""
    for line in dvc_yaml.splitlines():
        if named := _STAGE.match(line):
            stage = named[1]
        if line == "    params:" and stage:
            lines.extend(f"      - {file}" for file in step_files(stage, root))
        if not _CODE.match(line):
            lines.append(line)
    return "\n".join(lines) + "\n"


def _is_ours(data: Path) -> bool:
    return "__pycache__" not in data.parts and not data.name.startswith(".")


def _imported(file: Path, root: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(file.read_bytes())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from graft import tracking` names a module, `from graft.runs.step import step` what is in one.
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            path = root.joinpath(*name.split(".")).with_suffix(".py")
            if name.split(".")[0] in PACKAGES and path.is_file():
                yield path


if __name__ == "__main__":
    write_text(ROOT / "dvc.yaml", with_code((ROOT / "dvc.yaml").read_text(encoding="utf-8")))
