"""The images the steps run in: names for development, digests for production.

Chosen when the pipeline is compiled, by environment:

- `GRAFT_IMAGE_DATA`, `GRAFT_IMAGE_TORCH`: a whole reference each, best `registry/name@sha256:...`;
- else `GRAFT_IMAGE_REGISTRY` and `GRAFT_IMAGE_TAG` before and after the names.
"""

import os

NAME = "graft-python"  # KFP's local runner warns of images without "python" in their name
TAG = "latest"


def image(target: str) -> str:
    """Return the image of a Dockerfile target: "data" (no torch) or "torch"."""
    whole = os.environ.get(f"GRAFT_IMAGE_{target.upper()}")
    if whole:
        return whole
    registry = os.environ.get("GRAFT_IMAGE_REGISTRY", "").rstrip("/")
    tag = os.environ.get("GRAFT_IMAGE_TAG") or TAG
    return f"{registry}/{NAME}-{target}:{tag}".lstrip("/")
