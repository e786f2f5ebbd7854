"""The step `extract_features` for task segment."""

from pathlib import Path

from graft.decoders.dense_maps import extract_maps
from graft.masks.dataset import MaskDataset
from graft.runs.params import ExtractFeaturesParams
from graft.runs.run_log import Log
from graft.runs.step import Metrics


def extract(dataset: Path, features: Path, params: ExtractFeaturesParams, log: Log) -> Metrics:
    """Run the frozen backbone once over every photo and cache its maps."""
    photos = MaskDataset.read(dataset, "segment")
    found = extract_maps(features, photos, params)
    spec = found.store.spec
    backbone = spec.backbone_content
    log.params({"backbone": {"groups": ",".join(backbone["groups"]), "image_size": backbone["transform"]["size"]}})
    log.tag("backbone", backbone["architecture"])
    log.tag("features_fingerprint", spec.fingerprint)
    return {
        "backbone": backbone["architecture"],
        "weights": backbone["weights"]["source"],
        "weights_sha256": backbone["weights"]["sha256"],
        "image_size": backbone["transform"]["size"],
        "channels": photos.spec.channels,
        "backend": "torch",
        "images": len(photos),
        "new_images": len(photos),
        "taps": {level.group: level.channels for level in spec.levels},
        "bytes_per_image": round(found.store.bytes_per_photo()),
        "images_per_second": round(len(photos) / found.seconds, 1),
        "candidates": [],
    }
