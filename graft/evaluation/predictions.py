"""What the head and the fine-tuned model predict for the validation and test images."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from graft.backbones.feature_store import FeatureStore
from graft.core.errors import DataError, ModelError
from graft.data.dataset import ImageDataset, Split
from graft.evaluation.assessment import Predicted
from graft.evaluation.schema import prediction_table
from graft.models.bundle import ModelBundle
from graft.models.inference import answered, cached_logits
from graft.stats.metrics import Targets, Values


@dataclass(frozen=True)
class Predictions:
    """One row per validation and test image, in the dataset's order."""

    rows: npt.NDArray[np.int64]
    """Rows of the dataset (n,)."""
    splits: npt.NDArray[np.object_]
    groups: npt.NDArray[np.object_]
    targets: Targets
    logits: npt.NDArray[np.float32]
    """Of the model, as they come (n, C)."""
    model: Values
    """Calibrated probabilities (n, C)."""
    head: Values
    """Those of the head on frozen features (n, C)."""
    ood: Values | None
    """How foreign each image is by the model's detector (n,); None if it has none."""

    def within(self, split: Split) -> npt.NDArray[np.bool_]:
        """Return which rows belong to a split (n,)."""
        return np.asarray(self.splits == split, dtype=np.bool_)

    def predicted(self, split: Split) -> Predicted:
        """Return one split's part."""
        held = self.within(split)
        return Predicted(self.targets[held], self.model[held], self.head[held], self.groups[held])

    def table(self, images: ImageDataset) -> pd.DataFrame:
        """Return the rows as `predictions.parquet` holds them."""
        rows = images.table.iloc[self.rows].reset_index(drop=True)
        return prediction_table(rows, images.task, {"": self.model, "head_": self.head})


def predict_held_out(images: ImageDataset, store: FeatureStore, head: ModelBundle, model: ModelBundle) -> Predictions:
    """Run the model on the images themselves, as it will be deployed, and the head on the cached features.

    Raises:
        DataError: if there is no test image.
        ModelError: if the features or a model belong to other data.
    """
    _belong_together(images, store, head, model)
    table = images.table
    rows = np.sort(np.concatenate([images.labelled("val"), images.labelled("test")]))
    if not len(images.labelled("test")):
        raise DataError(
            "no test image in the dataset: nothing can be measured; set validate_data.test_fraction above 0"
        )
    reader = images.reader()
    detector = model.trust.detector if model.trust else None
    logits, ood = answered(model, detector, (reader[row] for row in rows), "evaluate", len(rows))
    if model.validation is not None:  # it has seen them since
        logits[(table["split"] == "val").to_numpy()[rows]] = model.validation
    return Predictions(
        rows=rows,
        splits=table["split"].to_numpy(dtype=object)[rows],
        groups=table["group"].to_numpy(dtype=object)[rows],
        targets=images.targets()[rows],
        logits=logits,
        model=model.probabilities(logits),
        head=head.probabilities(cached_logits(store, head, rows)),
        ood=ood if detector else None,
    )


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
