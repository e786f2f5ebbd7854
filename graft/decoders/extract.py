"""The step `extract_features` for task segment."""

from pathlib import Path

from graft.decoders.dense_maps import extract_maps
from graft.dense.cached_maps import extraction_metrics
from graft.masks.dataset import MaskDataset
from graft.params.extract_features import ExtractFeaturesParams
from graft.runs.run_log import Log
from graft.runs.step import Metrics


def extract(dataset: Path, features: Path, params: ExtractFeaturesParams, log: Log) -> Metrics:
    """Run the frozen backbone once over every photo and cache its maps."""
    photos = MaskDataset.read(dataset, "segment")
    found = extract_maps(features, photos, params)
    return extraction_metrics(found.store, photos, found.seconds, log)
