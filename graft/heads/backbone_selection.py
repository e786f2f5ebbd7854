"""Which backbone: several are probed on the training images, and the cheapest of the best is taken."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graft.backbones.incremental import extract_into
from graft.core.errors import ParamsError
from graft.data.dataset import ImageDataset
from graft.heads.depth_selection import accuracy_interval, decide, gather, paired
from graft.heads.logme import logme
from graft.heads.protocols import Floats
from graft.runs.params import ExtractFeaturesParams, TrainHeadParams

MOST_IMAGES = 2000
"""Training images that candidates are compared on: enough to tell them apart."""


@dataclass(frozen=True)
class Candidate:
    """A backbone and how it did. The fields are JSON-plain."""

    backbone: str
    weights: str
    tap: str
    """The group whose features did best, as the reuse depth is chosen."""
    accuracy: float
    low: float
    high: float
    """Cross-validated accuracy of a linear probe there, with its 95 % interval."""
    log_loss: float
    logme: float
    """Of the same features: advice, on which nothing depends."""
    operations: int
    """Floating-point operations per image, of all groups."""


def choose(dataset: ImageDataset, params: ExtractFeaturesParams) -> tuple[ExtractFeaturesParams, list[Candidate]]:
    """Return the parameters with the backbone that was chosen, and all candidates, best first.

    A linear probe is cross-validated at every group of each, on the same folds of the training images. The one that
    costs fewest operations wins among those whose log loss is within one standard error (of the paired difference) of
    the least.

    Raises:
        ParamsError: if there are no candidates.
        ModelError: for one that is unknown, or weights that cannot be had.
    """
    if not params.candidates:
        raise ParamsError(
            "extract_features.backbone='auto': name what to choose from, such as "
            "extract_features.candidates=[tf_efficientnet_lite0,resnet18]"
        )
    rows = dataset.indices("train")
    if len(rows) > MOST_IMAGES:
        rows = rows[np.linspace(0, len(rows) - 1, MOST_IMAGES).astype(np.int64)]
    found: list[tuple[Candidate, Floats]] = []
    for name in params.candidates:
        backbone, _, weights = name.partition("=")
        one = params.model_copy(update={"backbone": backbone, "weights": weights or params.weights})
        found.append(_probed(dataset, one, rows.tolist()))
    best = min(found, key=lambda pair: pair[0].log_loss)
    equals = [pair for pair in found if pair is best or _as_good(pair[1], best[1])]
    chosen, _ = min(equals, key=lambda pair: (pair[0].operations, pair[0].log_loss))
    others = sorted((one for one, _ in found if one is not chosen), key=lambda one: one.log_loss)
    return params.model_copy(update={"backbone": chosen.backbone, "weights": chosen.weights}), [chosen, *others]


def _as_good(losses: Floats, best: Floats) -> bool:
    worse, error = paired(losses, best)
    return worse <= error


def _probed(dataset: ImageDataset, params: ExtractFeaturesParams, rows: Sequence[int]) -> tuple[Candidate, Floats]:
    with tempfile.TemporaryDirectory() as folder:
        store = extract_into(Path(folder) / "features", dataset, params, rows).store
        evidence = gather(store, TrainHeadParams())
        reuse, strata = decide(evidence, "auto", "linear"), evidence.task.strata(evidence.targets)
        accuracy, low, high = accuracy_interval(reuse.chosen)
        candidate = Candidate(
            backbone=params.backbone,
            weights=params.weights,
            tap=reuse.taps[0],
            accuracy=accuracy,
            low=low,
            high=high,
            log_loss=float(reuse.chosen.loss.mean()),
            logme=logme(evidence.features(reuse.taps), strata, int(strata.max()) + 1),
            operations=store.spec.operations,
        )
    return candidate, reuse.chosen.loss
