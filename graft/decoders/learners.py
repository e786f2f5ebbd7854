"""What the steps `extract_features`, `train_head` and `fine_tune` do for each kind of task about pixels."""

from pathlib import Path
from typing import Protocol

from graft.runs.params import ExtractFeaturesParams, FineTuneParams, TrainHeadParams
from graft.runs.run_log import Log
from graft.runs.step import Metrics
from graft.tasks.pixels import Kind


class Learner(Protocol):
    """Three steps of one kind of task."""

    def extract(self, dataset: Path, features: Path, params: ExtractFeaturesParams, log: Log) -> Metrics:
        """Run the frozen backbone once over every photo."""

    def train(self, features: Path, head: Path, params: TrainHeadParams, log: Log) -> Metrics:
        """Fit what reads its maps."""

    def fine_tune(self, dataset: Path, head: Path, model: Path, params: FineTuneParams, log: Log) -> Metrics:
        """Train upper groups of the backbone, as long as it helps."""


class SegmentLearner:
    """A class for every pixel."""

    def extract(self, dataset: Path, features: Path, params: ExtractFeaturesParams, log: Log) -> Metrics:
        """Cache the maps of several resolutions."""
        from graft.decoders.extract import extract

        return extract(dataset, features, params, log)

    def train(self, features: Path, head: Path, params: TrainHeadParams, log: Log) -> Metrics:
        """Choose the maps and fit the decoder."""
        from graft.decoders.fit import train_decoder

        return train_decoder(features, head, params, log)

    def fine_tune(self, dataset: Path, head: Path, model: Path, params: FineTuneParams, log: Log) -> Metrics:
        """Train in stages, judged on validation photos."""
        from graft.decoders.stages import fine_tune_masks

        return fine_tune_masks(dataset, head, model, params, log)


def learner(kind: Kind) -> Learner:
    """Return the steps of a kind of task."""
    del kind
    return SegmentLearner()
