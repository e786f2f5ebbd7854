"""The cosine head: what counts is the angle between features and a class's weights, times a learnt sharpness.

Gidaris & Komodakis, CVPR 2018; Chen et al., ICLR 2019 (Baseline++). Features have the same length for every image and
weights for every class, so that neither a loud image nor a frequent class drowns the others.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import log_softmax

from graft.core.row_blocks import Rows, read
from graft.heads.feature_scaling import some, tap_scale
from graft.heads.protocols import Floats, Ints, Kind

SHARPNESS = 5.0
"""Where the fit begins: between what strong and what weak penalties come to."""
_LEAST = 1e-12
_LBFGS = {"maxiter": 150, "gtol": 1e-5, "ftol": 1e-6, "maxcor": 8}


@dataclass(frozen=True)
class Cosine:
    """A classifier by angle: `sharpness * cos((x - mean) / scale, weight)`."""

    kind: ClassVar[Kind] = "cosine"
    weight: Floats
    """(classes, features), rows of length one."""
    sharpness: float
    mean: Floats
    scale: Floats
    """(features,)"""

    def logits(self, features: npt.NDArray[np.floating]) -> Floats:
        """Return (n, classes) for (n, features)."""
        x = (features - self.mean) / self.scale
        return np.asarray(self.sharpness * (_unit(x) @ self.weight.T), dtype=np.float64)

    def tensors(self) -> dict[str, Floats]:
        """Return the tensors of the `classifier.Head` that computes the same, by their names there."""
        return {
            "mean": self.mean,
            "scale": self.scale,
            "linear.weight": self.weight,
            "linear.sharpness": np.array(self.sharpness, dtype=np.float64),
        }


def fit_cosine(
    features: npt.NDArray[np.floating] | Rows,
    targets: Ints,
    n_classes: int,
    penalties: Sequence[float],
    sample_weight: Floats | None = None,
    widths: Sequence[int] | None = None,
) -> Iterator[Cosine]:
    """Fit one classifier per penalty, strongest first, each started from the one before.

    Minimises `mean(w_i * CE_i) + penalty / 2 * classes * sharpness^2`: the penalty of `linear_probe.fit_path` for
    weights that are all as long as the sharpness, on features of about the same length, so that it means the same. The
    first fit begins at the classes' mean directions (Qi et al., CVPR 2018).

    Args:
        features, targets, n_classes, penalties, sample_weight, widths: as for `linear_probe.fit_path`.
    """
    rows = some(len(targets))
    features, targets = features[rows] if isinstance(features, np.ndarray) else read(features, rows), targets[rows]
    weight = np.ones(len(rows)) if sample_weight is None else sample_weight[rows]
    one_hot = np.eye(n_classes)[targets]
    _, scale = tap_scale(features, widths)
    # Midway between the classes: about the mean of all images, those of a class that most are of have no direction.
    counts = one_hot.sum(0)
    mean = np.asarray((one_hot[:, counts > 0] / counts[counts > 0]).T @ features, dtype=np.float64).mean(0)
    x = _unit((features - mean) / scale).astype(np.float32)
    # A class without images has no direction yet; any will do.
    directions, sharpness = _unit(one_hot.T @ x + 1e-6), SHARPNESS
    for penalty in penalties:
        directions, sharpness = _minimise(x, one_hot, weight / len(rows), penalty, directions, sharpness)
        yield Cosine(directions, sharpness, mean, scale)


def _minimise(
    x: npt.NDArray[np.float32], one_hot: Floats, weight: Floats, penalty: float, directions: Floats, sharpness: float
) -> tuple[Floats, float]:
    shape = directions.shape

    def loss(flat: Floats) -> tuple[float, Floats]:
        rows, sharp = flat[:-1].reshape(shape), flat[-1]
        length = np.linalg.norm(rows, axis=1, keepdims=True) + _LEAST
        unit = rows / length
        cosines = (x @ unit.T.astype(np.float32)).astype(np.float64)
        log_p = log_softmax(sharp * cosines, axis=1)
        value = -(weight @ (one_hot * log_p).sum(1)) + 0.5 * penalty * shape[0] * sharp**2
        residual = (np.exp(log_p) - one_hot) * weight[:, None]
        slope = sharp * (residual.T.astype(np.float32) @ x)
        # Only what turns a row changes the loss: its length does not.
        turning = (slope - (slope * unit).sum(1, keepdims=True) * unit) / length
        return float(value), np.append(turning.ravel(), (residual * cosines).sum() + penalty * shape[0] * sharp)

    start = np.append(directions.ravel(), sharpness)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=_LBFGS).x
    return _unit(found[:-1].reshape(shape)), float(found[-1])


def _unit(rows: npt.NDArray[np.floating]) -> Floats:
    return np.asarray(rows / (np.linalg.norm(rows, axis=1, keepdims=True) + _LEAST), dtype=np.float64)
