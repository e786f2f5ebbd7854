"""Write an image's bill of materials in CycloneDX format: `python -m components.sbom torch cuda > torch.cdx.json`.

It is made from the lock files of the image, which list every Python package with its version and hash. It does not
include the packages of the base image, nor a mounted torch.
"""

import json
import sys
from typing import Any

from components.lock import FOLDER, ROOT

FILES = {"data": ("data",), "torch": ("data", "torch")}
FROM_INDEX = ("torch", "torchvision")
"""Packages that the Dockerfile installs from TORCH_INDEX, with the pins of `constraints.txt`."""


def bill_of_materials(target: str, torch: str = "cuda") -> dict[str, Any]:
    """Return the CycloneDX 1.5 document of an image.

    Args:
        target: target of the Dockerfile, "data" or "torch".
        torch: the source of torch in the image: "cuda", "index" or "mounted".
    """
    files = [FOLDER / f"requirements-{name}.txt" for name in FILES[target]]
    if target == "torch" and torch == "cuda":
        files.append(FOLDER / "requirements-cuda.txt")
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    if target == "torch" and torch == "index":
        pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        lines += [line for line in pins if line.split("==")[0] in FROM_INDEX]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": f"graft-python-{target}"}},
        "components": [_component(line) for line in lines],
    }


def _component(line: str) -> dict[str, Any]:
    package, *digests = line.split(" --hash=sha256:")  # one of each supported Python, or one of all
    name, _, version = package.partition("==")
    found: dict[str, Any] = {
        "type": "library",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name}@{version}",
    }
    return found | ({"hashes": [{"alg": "SHA-256", "content": digest} for digest in digests]} if digests else {})


if __name__ == "__main__":
    json.dump(bill_of_materials(*sys.argv[1:]), sys.stdout, indent=2)
