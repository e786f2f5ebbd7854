"""The images the steps run in: names for development, digests for production.

They are chosen when the pipeline is compiled: by a profile (`pipelines/profiles`), else by the environment:

- `GRAFT_IMAGE_DATA`, `GRAFT_IMAGE_TORCH`: a full reference each, preferably `registry/name@sha256:...`;
- else `GRAFT_IMAGE_REGISTRY` before and `GRAFT_IMAGE_TAG` after the names.
"""

import os

NAME = "graft-python"  # KFP's local runner warns about images without "python" in their name
TAG = "latest"
DATA_STEPS = frozenset({"get_data", "validate_data"})
"""The steps without a model: their image holds no torch."""


def image(step: str) -> str:
    """Return the image that a step runs in."""
    target = "data" if step in DATA_STEPS else "torch"
    reference = os.environ.get(f"GRAFT_IMAGE_{target.upper()}")
    if reference:
        return reference
    registry = os.environ.get("GRAFT_IMAGE_REGISTRY", "").rstrip("/")
    tag = os.environ.get("GRAFT_IMAGE_TAG") or TAG
    return f"{registry}/{NAME}-{target}:{tag}".lstrip("/")
