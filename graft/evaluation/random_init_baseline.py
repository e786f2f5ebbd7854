"""The baseline for pretraining: the same backbone with random weights, frozen, with a head fitted the same way."""

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from graft.backbones.backbone import BackboneSpec
from graft.backbones.incremental import extract_into
from graft.data.dataset import ImageDataset
from graft.heads.depth_selection import choose_head, prepare_head_inputs
from graft.models.fit_head import fit_head
from graft.models.inference import cached_logits
from graft.runs.params import ExtractFeaturesParams, TrainHeadParams
from graft.stats.metrics import Values

NO_WEIGHTS = "none"


def untrained_probabilities(
    images: ImageDataset, backbone: BackboneSpec, rows: npt.NDArray[np.int64], seed: int
) -> Values | None:
    """Return calibrated probabilities (n, C) of the best head on random features; None if the model itself has these.

    Depth, taps and penalty are chosen like `train_head` does by default, on training images only. The random backbone
    is not trained, so this measures the value of pretrained features, not what training from scratch would reach.

    Args:
        images: the dataset; its training images fit the head.
        backbone: the pretrained one, for architecture and input.
        rows: of the images to predict (n,).
        seed: of the random weights and of the folds.
    """
    if backbone.weights.source == NO_WEIGHTS:
        return None
    transform = backbone.transform
    params = ExtractFeaturesParams(
        backbone=backbone.architecture,
        weights=NO_WEIGHTS,
        image_size=transform.size,
        stem=backbone.stem,
        mean=transform.mean,
        std=transform.std,
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        store = extract_into(Path(folder), images, params).store
        inputs = prepare_head_inputs(store, TrainHeadParams(seed=seed))
        head = fit_head(inputs, choose_head(inputs, "auto", "auto"))
        return head.probabilities(cached_logits(store, head, rows))
