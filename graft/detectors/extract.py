"""The step `extract_features` for task instances."""

from pathlib import Path

from graft.dense.cached_maps import extraction_metrics
from graft.detectors.photo_maps import extract_photo_maps
from graft.objects.object_dataset import ObjectDataset
from graft.params.extract_features import ExtractFeaturesParams
from graft.runs.run_log import Log
from graft.runs.step import Metrics


def extract(dataset: Path, features: Path, params: ExtractFeaturesParams, log: Log) -> Metrics:
    """Run the frozen backbone over every photo and cache its maps."""
    photos = ObjectDataset.open(dataset)
    found = extract_photo_maps(features, photos, params)
    return extraction_metrics(found.store, photos, found.seconds, log)
