"""The step `extract_features` for task segment."""

from pathlib import Path

from graft.backbones.backbone_record import record_backbone
from graft.decoders.dense_maps import extract_maps
from graft.masks.dataset import MaskDataset
from graft.params.extract_features import ExtractFeaturesParams
from graft.runs.run_log import Log
from graft.runs.step import Metrics


def extract(dataset: Path, features: Path, params: ExtractFeaturesParams, log: Log) -> Metrics:
    """Run the frozen backbone once over every photo and cache its maps."""
    photos = MaskDataset.read(dataset, "segment")
    found = extract_maps(features, photos, params)
    spec = found.store.spec
    return {
        **record_backbone(spec.backbone_content, spec.fingerprint, log),
        "channels": photos.spec.channels,
        "backend": "torch",
        "images": len(photos),
        "new_images": len(photos),
        "taps": {level.group: level.channels for level in spec.levels},
        "bytes_per_image": round(found.store.bytes_per_photo()),
        "images_per_second": round(len(photos) / found.seconds, 1),
        "candidates": [],
    }
