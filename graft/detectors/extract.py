"""The step `extract_features` for task instances."""

from pathlib import Path

from graft.backbones.backbone_record import record_backbone
from graft.detectors.photo_maps import extract_photo_maps
from graft.objects.object_dataset import ObjectDataset
from graft.params.extract_features import ExtractFeaturesParams
from graft.runs.run_log import Log
from graft.runs.step import Metrics


def extract(dataset: Path, features: Path, params: ExtractFeaturesParams, log: Log) -> Metrics:
    """Run the frozen backbone over every photo and cache its maps."""
    photos = ObjectDataset.open(dataset)
    found = extract_photo_maps(features, photos, params)
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
