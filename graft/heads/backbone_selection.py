"""Backbone selection: probe several on the training images and take the cheapest of the best."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from graft.backbones.incremental import extract_into
from graft.core.errors import ParamsError
from graft.data.dataset import ImageDataset
from graft.heads.depth_selection import accuracy_interval, choose_head, prepare_head_inputs
from graft.heads.logme import logme
from graft.heads.protocols import Floats
from graft.runs.params import ExtractFeaturesParams, TrainHeadParams
from graft.stats.paired_difference import paired_difference

Names = npt.NDArray[np.object_]

MOST_IMAGES = 2000
"""Training images that candidates are compared on: enough to distinguish them."""


@dataclass(frozen=True)
class Candidate:
    """A backbone and its scores. The fields are plain JSON types."""

    backbone: str
    weights: str
    tap: str
    """The group with the best features, chosen like the reuse depth."""
    accuracy: float
    low: float
    high: float
    """Cross-validated accuracy of a linear probe there, with its 95 % interval."""
    log_loss: float
    logme: float
    """LogME of the same features: for information only."""
    operations: int
    """Floating-point operations per image, of all groups."""


def choose_backbone(
    dataset: ImageDataset, params: ExtractFeaturesParams
) -> tuple[ExtractFeaturesParams, list[Candidate]]:
    """Return the parameters with the chosen backbone, and all candidates, best first.

    A linear probe is cross-validated at every group of each backbone, on the same folds of the training images. Among
    the backbones whose log loss is within one standard error (of the paired difference) of the lowest, the one with the
    fewest operations wins.

    Raises:
        ParamsError: if there are no candidates.
        ModelError: for an unknown candidate, or unavailable weights.
    """
    if not params.candidates:
        raise ParamsError(
            "extract_features.backbone='auto': name what to choose from, such as "
            "extract_features.candidates=[tf_efficientnet_lite0,resnet18]"
        )
    rows = dataset.indices("train")
    if len(rows) > MOST_IMAGES:
        rows = rows[np.linspace(0, len(rows) - 1, MOST_IMAGES).astype(np.int64)]
    found: list[tuple[Candidate, Floats, Names]] = []
    for name in params.candidates:
        backbone, _, weights = name.partition("=")
        one = params.model_copy(update={"backbone": backbone, "weights": weights or params.weights})
        found.append(_probed(dataset, one, rows.tolist()))
    best = min(found, key=lambda one: one[0].log_loss)
    equals = [one for one in found if one is best or _as_good(one[1], best[1], best[2])]
    chosen, _, _ = min(equals, key=lambda one: (one[0].operations, one[0].log_loss))
    others = sorted((one for one, _, _ in found if one is not chosen), key=lambda one: one.log_loss)
    return params.model_copy(update={"backbone": chosen.backbone, "weights": chosen.weights}), [chosen, *others]


def _as_good(losses: Floats, best: Floats, groups: Names) -> bool:
    worse, error = paired_difference(losses, best, groups)
    return worse <= error


def _probed(
    dataset: ImageDataset, params: ExtractFeaturesParams, rows: Sequence[int]
) -> tuple[Candidate, Floats, Names]:
    """Return the candidate, the log loss of each judged image, and these images' groups."""
    with tempfile.TemporaryDirectory() as folder:
        store = extract_into(Path(folder) / "features", dataset, params, rows).store
        inputs = prepare_head_inputs(store, TrainHeadParams())
        choice, strata = choose_head(inputs, "auto", "linear"), inputs.task.strata(inputs.targets)
        accuracy, low, high = accuracy_interval(choice.cross_validated)
        candidate = Candidate(
            backbone=params.backbone,
            weights=params.weights,
            tap=choice.taps[0],
            accuracy=accuracy,
            low=low,
            high=high,
            log_loss=float(choice.cross_validated.loss.mean()),
            logme=logme(inputs.features(choice.taps), strata, int(strata.max()) + 1),
            operations=store.spec.operations,
        )
    return candidate, choice.cross_validated.loss, inputs.groups[inputs.judged]
