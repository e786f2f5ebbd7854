"""What the step `extract_features` records about the backbone, whatever it extracts."""

from collections.abc import Mapping
from typing import Any

from graft.runs.run_log import Log


def record_backbone(backbone: Mapping[str, Any], fingerprint: str, log: Log) -> dict[str, Any]:
    """Record the backbone and return the step's metrics about it.

    Args:
        backbone: its spec, as in the artifact.
        fingerprint: of the features.
        log: the step's record.
    """
    log.params({"backbone": {"groups": ",".join(backbone["groups"]), "image_size": backbone["transform"]["size"]}})
    log.tag("backbone", backbone["architecture"])
    log.tag("features_fingerprint", fingerprint)
    return {
        "backbone": backbone["architecture"],
        "weights": backbone["weights"]["source"],
        "weights_sha256": backbone["weights"]["sha256"],
        "image_size": backbone["transform"]["size"],
    }
