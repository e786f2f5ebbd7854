"""The predictions of the head and the fine-tuned model for the validation and test images."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from graft.backbones.feature_store import FeatureStore
from graft.core.errors import DataError, ModelError
from graft.data.dataset import ImageDataset
from graft.data.records import Split
from graft.evaluation.assessment import SplitPredictions
from graft.evaluation.held_out_table import prediction_table
from graft.models.bundle import ModelBundle
from graft.models.export import PARITY
from graft.models.inference import cached_logits, cached_logits_and_distances, logits_and_distances
from graft.stats.metrics import Targets, Values
from graft.stats.subsampling import evenly_spaced

CHECKED_IMAGES = 64
"""Images that go through the network although cached features answer for them, to check the answers."""
OTHER_FEATURES = 0.05
"""A difference in a probability that rounding cannot explain, not even that of features in float16."""


@dataclass(frozen=True)
class Predictions:
    """One row per validation and test image, in the dataset's order."""

    rows: npt.NDArray[np.int64]
    """Rows of the dataset (n,)."""
    splits: npt.NDArray[np.object_]
    groups: npt.NDArray[np.object_]
    targets: Targets
    logits: npt.NDArray[np.float32]
    """The model's raw logits (n, C)."""
    model: Values
    """The model's calibrated probabilities (n, C)."""
    head: Values
    """The calibrated probabilities of the head on frozen features (n, C)."""
    ood: Values | None
    """Out-of-distribution scores (n,), 1 at the threshold; NaN for images that a refit has trained on; None if there is
    no detector."""

    def in_split(self, split: Split) -> npt.NDArray[np.bool_]:
        """Return which rows belong to a split (n,)."""
        return np.asarray(self.splits == split, dtype=np.bool_)

    def of_split(self, split: Split) -> SplitPredictions:
        """Return the predictions for one split."""
        held = self.in_split(split)
        return SplitPredictions(self.targets[held], self.model[held], self.head[held], self.groups[held])

    def table(self, images: ImageDataset) -> pd.DataFrame:
        """Return the table for `predictions.parquet`."""
        rows = images.table.iloc[self.rows].reset_index(drop=True)
        table = prediction_table(rows, images.task, {"": self.model, "head_": self.head})
        return table if self.ood is None else table.assign(ood=self.ood)


def predict_held_out(images: ImageDataset, store: FeatureStore, head: ModelBundle, model: ModelBundle) -> Predictions:
    """Predict the validation and test images with the model and with the head on frozen features.

    A fine-tuned model runs on the image files, as in deployment. The features of one whose backbone was not trained are
    cached already: they answer, and some images go through the network to check them.

    Raises:
        DataError: if there is no test image.
        ModelError: if the features or a model belong to another dataset, or the features to another backbone.
    """
    _belong_together(images, store, head, model)
    table = images.table
    rows = np.sort(np.concatenate([images.labelled("val"), images.labelled("test")]))
    if not len(images.labelled("test")):
        raise DataError(
            "no test image in the dataset: nothing can be measured; set validate_data.test_fraction above 0"
        )
    logits, distances = _logits_and_distances(images, store, model, rows)
    seen_by_refit = np.zeros(len(rows), dtype=np.bool_)
    if model.validation is not None:
        seen_by_refit = (table["split"] == "val").to_numpy()[rows]
        logits[seen_by_refit] = model.validation.aligned(table["id"].iloc[rows[seen_by_refit]])
    return Predictions(
        rows=rows,
        splits=table["split"].to_numpy(dtype=object)[rows],
        groups=table["group"].to_numpy(dtype=object)[rows],
        targets=images.targets()[rows],
        logits=logits,
        model=model.probabilities(logits),
        head=head.probabilities(cached_logits(store, head, rows)),
        ood=_scores(model, distances, seen_by_refit),
    )


def _logits_and_distances(
    images: ImageDataset, store: FeatureStore, model: ModelBundle, rows: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float32], Values]:
    reader = images.reader()
    if not model.spec.trained_groups:
        some = rows[evenly_spaced(len(rows), CHECKED_IMAGES)]
        exact = model.logits((reader[row] for row in some), "evaluate: check the features", len(some))
        expected = model.probabilities(exact)
        found = model.probabilities(cached_logits(store, model, some))
        difference = float(np.abs(found - expected).max())
        if not difference <= OTHER_FEATURES:
            raise ModelError(
                f"features: they change a probability of the model by {difference:.2g}, so another backbone made them; "
                "run extract_features and train_head again"
            )
        if difference <= PARITY:
            return cached_logits_and_distances(store, model, rows)
    detector = model.abstention.detector if model.abstention else None
    return logits_and_distances(model, detector, (reader[row] for row in rows), "evaluate", len(rows))


def _scores(model: ModelBundle, distances: Values, seen_by_refit: npt.NDArray[np.bool_]) -> Values | None:
    """Return out-of-distribution scores of images the model has not seen; NaN for the others."""
    if model.abstention is None:
        return None
    scores = model.abstention.detector.normalised(distances)
    scores[seen_by_refit] = np.nan
    return scores


def _belong_together(images: ImageDataset, store: FeatureStore, head: ModelBundle, model: ModelBundle) -> None:
    digests = {
        "features": store.spec.dataset_digest,
        "head": head.spec.dataset_digest,
        "model": model.spec.dataset_digest,
    }
    for name, digest in digests.items():
        if digest != images.spec.digest:
            raise ModelError(
                f"{name}: made from dataset {digest[:12]}, but this is {images.spec.digest[:12]}; run its step again"
            )
