"""Write what is in an image as a CycloneDX bill of materials: `python -m components.sbom torch > torch.cdx.json`.

Made from the lock files that the image is built from: they name every Python package with its version and hash.
"""

import json
import sys
from typing import Any

from components.lock import FOLDER

FILES = {"data": ("data",), "torch": ("data", "torch", "cuda")}


def bill(target: str) -> dict[str, Any]:
    """Return the CycloneDX 1.5 document of a Dockerfile target ("data" or "torch", with CUDA parts)."""
    lines = [
        line
        for name in FILES[target]
        for line in (FOLDER / f"requirements-{name}.txt").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": f"graft-python-{target}"}},
        "components": [_component(line) for line in lines],
    }


def _component(line: str) -> dict[str, Any]:
    package, _, digest = line.partition(" --hash=sha256:")
    name, _, version = package.partition("==")
    return {
        "type": "library",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name}@{version}",
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }


if __name__ == "__main__":
    json.dump(bill(sys.argv[1]), sys.stdout, indent=2)
