"""Backbone selection: probe several on the training images, and take the cheapest or the largest of the best."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import t as students_t

from graft.backbones.incremental import extract_into
from graft.core.errors import ParamsError
from graft.data.dataset import ImageDataset
from graft.heads.depth_selection import accuracy_interval, choose_head
from graft.heads.head_inputs import prepare_head_inputs
from graft.heads.logme import logme
from graft.heads.protocols import Floats
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.train_head import TrainHeadParams
from graft.stats.paired_difference import paired_difference

Names = npt.NDArray[np.object_]
Preference = Literal["accuracy", "balance", "cost"]
LEVEL = 0.05
"""A backbone is clearly worse than the best if chance shows as large a difference less often than this."""

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
    behind: float
    """How much higher its log loss is than the lowest, image by image."""
    error: float
    """Standard error of `behind`, over groups of images."""
    clearly_worse: bool
    """Whether chance does not explain `behind`."""
    logme: float
    """LogME of the same features: for information only."""
    operations: int
    """Floating-point operations per image, of all groups."""

    def describe(self) -> str:
        """Return how it compares with the candidate of the lowest log loss, in words."""
        if self.behind == 0:
            return "the lowest"
        told = "clearly worse" if self.clearly_worse else "no clear difference"
        return f"{self.behind:.3f} behind the lowest (standard error {self.error:.3f}: {told})"


def choose_backbone(
    dataset: ImageDataset, params: ExtractFeaturesParams
) -> tuple[ExtractFeaturesParams, list[Candidate]]:
    """Return the parameters with the chosen backbone, and all candidates: the chosen one, then the others, best first.

    A linear probe is cross-validated at every group of each backbone, on the same folds of the training images. Then
    `params.prefer` decides, see `preferred`.

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
    candidates = _compared(found)
    chosen = preferred(candidates, params.prefer)
    others = sorted((one for one in candidates if one is not chosen), key=lambda one: one.log_loss)
    return params.model_copy(update={"backbone": chosen.backbone, "weights": chosen.weights}), [chosen, *others]


def preferred(candidates: Sequence[Candidate], prefer: Preference) -> Candidate:
    """Return the candidate to take.

    Args:
        candidates: at least one.
        prefer: `balance`: of those whose log loss is within one standard error (of the paired difference) of the
            lowest, the one with the fewest operations. Where images are few, that error is large, and the others may
            be better: `accuracy` takes the one with the most operations of all that are not clearly worse, since larger
            networks transfer better on average (Kornblith et al. 2019); `cost` takes the one with the fewest of these.
    """
    if prefer == "balance":
        equals = [one for one in candidates if one.behind <= one.error]
    else:
        equals = [one for one in candidates if not one.clearly_worse]
    sign = -1 if prefer == "accuracy" else 1
    return min(equals, key=lambda one: (sign * one.operations, one.log_loss))


def _compared(found: Sequence[tuple[Candidate, Floats, Names]]) -> list[Candidate]:
    """Return the candidates, each compared with the one of the lowest log loss."""
    _, best, groups = min(found, key=lambda one: one[0].log_loss)
    independent, compared = len(np.unique(groups)), []
    for candidate, losses, _ in found:
        behind, error = paired_difference(losses, best, groups)
        least = float(students_t.isf(LEVEL, independent - 1)) * error if independent > 1 else np.inf
        compared.append(replace(candidate, behind=behind, error=error, clearly_worse=bool(behind > least)))
    return compared


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
            behind=0.0,
            error=0.0,
            clearly_worse=False,
            logme=logme(inputs.features(choice.taps), strata, int(strata.max()) + 1),
            operations=store.spec.operations,
        )
    return candidate, choice.cross_validated.loss, inputs.groups[inputs.judged]
