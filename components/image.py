"""The images the steps run in: names for development, digests for production.

Chosen when the pipeline is compiled: by a profile (`pipelines/profiles`), else by environment:

- `GRAFT_IMAGE_DATA`, `GRAFT_IMAGE_TORCH`: a whole reference each, best `registry/name@sha256:...`;
- else `GRAFT_IMAGE_REGISTRY` and `GRAFT_IMAGE_TAG` before and after the names.
"""

import os

NAME = "graft-python"  # KFP's local runner warns of images without "python" in their name
TAG = "latest"
DATA_STEPS = frozenset({"get_data", "validate_data"})
"""The steps without a model: their image holds no torch."""


def image(step: str) -> str:
    """Return the image that a step runs in."""
    target = "data" if step in DATA_STEPS else "torch"
    whole = os.environ.get(f"GRAFT_IMAGE_{target.upper()}")
    if whole:
        return whole
    registry = os.environ.get("GRAFT_IMAGE_REGISTRY", "").rstrip("/")
    tag = os.environ.get("GRAFT_IMAGE_TAG") or TAG
    return f"{registry}/{NAME}-{target}:{tag}".lstrip("/")
