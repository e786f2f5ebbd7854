"""Write the images' requirements with hashes: `python -m components.lock`.

Every package that an image installs is in one of these files under `components/`, with the version from
`constraints.txt` and the sha256 of the file for this platform:

- `requirements-build.txt`: builds the few packages that come as pure Python source;
- `requirements-data.txt`: the steps without a model, and KFP's executor;
- `requirements-torch.txt`: what the steps with a model need in addition, except torch;
- `requirements-cuda.txt`: torch from PyPI, with its CUDA parts.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent
TORCH = ("torch", "torchvision", "triton", "nvidia-", "cuda-")
EXECUTOR = "kfp"
"""Runs a step inside a container, which needs none of its requirements."""
HEADER = "# Written by `make lock`: pip install --no-deps --require-hashes -r ...\n"


def resolve(*requirements: str, dependencies: bool = True) -> dict[str, str]:
    """Let pip resolve without installing; return by package name the line with version and hash."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "-qq"]
        command += ["--prefer-binary", "-c", str(ROOT / "constraints.txt"), "--report", str(report)]
        subprocess.run([*command, *([] if dependencies else ["--no-deps"]), *requirements], check=True, cwd=ROOT)
        packages: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {line.split("==")[0]: line for line in map(_line, packages) if line}


def main() -> None:
    """Write the requirements files."""
    _write("build", resolve("setuptools>=77", dependencies=False).values())
    data = resolve(".") | resolve(EXECUTOR, dependencies=False)
    both = resolve(".[torch]")
    torch = {name: line for name, line in both.items() if name.startswith(TORCH)}
    _write("data", data.values())
    _write("torch", (line for name, line in both.items() if name not in data and name not in torch))
    _write("cuda", torch.values())


def _line(package: dict[str, Any]) -> str:
    """Return `name==version --hash=...`; an empty string for the project itself."""
    metadata, archive = package["metadata"], package["download_info"].get("archive_info")
    if not archive:
        return ""
    name = str(metadata["name"]).lower().replace("_", "-")
    return f"{name}=={metadata['version']} --hash=sha256:{archive['hashes']['sha256']}"


def _write(name: str, lines: Iterable[str]) -> None:
    (FOLDER / f"requirements-{name}.txt").write_text(HEADER + "\n".join(sorted(lines)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
