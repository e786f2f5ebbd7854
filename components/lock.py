"""Write the requirements of `make setup` and of the images with hashes: `python -m components.lock`.

`components/requirements-setup.txt` has what `make setup` installs, for every platform and supported Python: each
package with the version from `constraints.txt` and the sha256 of all files of that version in the index.

Every package that an image installs is in one of these files under `components/`, with the version from
`constraints.txt` and the sha256 of the file for this platform, or of one file for each supported Python:

- `requirements-build.txt`: builds the few packages that come as pure Python source;
- `requirements-data.txt`: the steps without a model, and KFP's executor;
- `requirements-torch.txt`: what the steps with a model need in addition, except torch;
- `requirements-cuda.txt`: torch from PyPI, with its CUDA parts.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent
TORCH = ("torch", "torchvision", "triton", "nvidia-", "cuda-")
EXECUTOR = "kfp"
"""Runs a step inside a container, which needs none of its requirements."""
PYTHONS = ("3.11", "3.12", "3.13")
"""That an image may have: its build argument `PYTHON`."""
EXTRAS = ("run", "web", "fast", "onnx", "formats", "s3", "test")
"""What `make setup` installs beside the core."""
HEADER = "# Written by `make lock`: pip install --no-deps --require-hashes -r ...\n"
_OF_ONE_PYTHON = re.compile(r"-cp\d+-cp\d+-[\w.]+\.whl$")


def resolve(*requirements: str, dependencies: bool = True) -> dict[str, str]:
    """Let pip resolve without installing; return by package name the line with version and hashes."""
    packages = _report("--prefer-binary", *([] if dependencies else ["--no-deps"]), *requirements)
    found = {package.name: package for package in packages}
    compiled = [f"{one.name}=={one.version}" for one in packages if _OF_ONE_PYTHON.search(one.file)]
    hashes = {name: {package.sha256} for name, package in found.items()}
    for python in PYTHONS if compiled else ():
        for other in _report("--no-deps", "--only-binary", ":all:", "--python-version", python, *compiled):
            hashes[other.name].add(other.sha256)
    return {name: found[name].line(hashes[name]) for name in found}


def resolve_for_every_platform(extras: Iterable[str] = EXTRAS) -> list[str]:
    """Let uv resolve the project without installing; return one line for each package: version, marker and hashes."""
    options = [f"--extra={extra}" for extra in extras]
    options += ["--universal", "--generate-hashes", f"--python-version={PYTHONS[0]}", "--no-header", "--no-annotate"]
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--constraints", "constraints.txt", *options]
    done = subprocess.run([*command, "pyproject.toml"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return [re.sub(r"\s+", " ", line) for line in done.stdout.replace("\\\n", " ").splitlines() if line]


def main() -> None:
    """Write the requirements files."""
    _write("setup", resolve_for_every_platform())
    _write("build", resolve("setuptools>=77", dependencies=False).values())
    data = resolve(".[data]") | resolve(EXECUTOR, dependencies=False)
    both = resolve(".[data,torch]")
    torch = {name: line for name, line in both.items() if name.startswith(TORCH)}
    _write("data", data.values())
    _write("torch", (line for name, line in both.items() if name not in data and name not in torch))
    _write("cuda", torch.values())


@dataclass(frozen=True)
class _Package:
    """What pip would install."""

    name: str
    version: str
    file: str
    sha256: str

    def line(self, hashes: Iterable[str]) -> str:
        return " ".join([f"{self.name}=={self.version}", *(f"--hash=sha256:{one}" for one in sorted(hashes))])


def _report(*options: str) -> list[_Package]:
    """Return what `pip install` with these options would install, without the project itself."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "-qq"]
        # pip asks for a target where it resolves for another Python; it writes nothing there.
        command += ["-c", str(ROOT / "constraints.txt"), "--report", str(report), "--target", folder]
        subprocess.run([*command, *options], check=True, cwd=ROOT)
        packages: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))["install"]
    return [_package(one) for one in packages if one["download_info"].get("archive_info")]


def _package(found: dict[str, Any]) -> _Package:
    download, metadata = found["download_info"], found["metadata"]
    name = str(metadata["name"]).lower().replace("_", "-")
    return _Package(name, metadata["version"], download["url"], download["archive_info"]["hashes"]["sha256"])


def _write(name: str, lines: Iterable[str]) -> None:
    (FOLDER / f"requirements-{name}.txt").write_text(HEADER + "\n".join(sorted(lines)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
