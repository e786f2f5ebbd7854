"""The cosine head: logits are the cosine between features and a class's weights, times a learnt sharpness.

Gidaris & Komodakis, CVPR 2018; Chen et al., ICLR 2019 (Baseline++). The features of every image and the weights of
every class have length one, so neither an image with large features nor a frequent class dominates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from graft.heads.nonlinear import cross_entropy, tap_scale, training_arrays
from graft.heads.protocols import FittedHead, Floats, Kind, TrainingSet

SHARPNESS = 5.0
"""Start of the fit: between the results of strong and of weak penalties."""
_LEAST = 1e-12
_LBFGS = {"maxiter": 150, "gtol": 1e-5, "ftol": 1e-6, "maxcor": 8}


@dataclass(frozen=True)
class Cosine(FittedHead):
    """A classifier by angle: `sharpness * cos((x - mean) / scale, weight)`."""

    kind: ClassVar[Kind] = "cosine"
    weight: Floats
    """(classes, features), rows of length one."""
    sharpness: float

    def logits(self, features: npt.NDArray[np.floating]) -> Floats:
        """Return (n, classes) for (n, features)."""
        x = (features - self.mean) / self.scale
        return np.asarray(self.sharpness * (_unit(x) @ self.weight.T), dtype=np.float64)

    def layers(self) -> dict[str, Floats]:
        """Return weights and sharpness."""
        return {"linear.weight": self.weight, "linear.sharpness": np.array(self.sharpness, dtype=np.float64)}


def fit_cosine(images: TrainingSet, penalties: Sequence[float]) -> Iterator[Cosine]:
    """Fit one classifier per penalty, strongest first, each started from the previous one.

    Minimises `mean(w_i * CE_i) + penalty / 2 * classes * sharpness^2`: the penalty of `linear_probe.fit_path` for
    weights whose length is the sharpness, on features of about the same length, so that penalties are comparable. The
    first fit starts at the classes' mean directions (Qi et al., CVPR 2018).
    """
    features, one_hot, weight = training_arrays(images)
    _, scale = tap_scale(features, images.widths)
    # The mean of the class means: relative to the mean of all images, a majority class would have no direction.
    counts = one_hot.sum(0)
    mean = np.asarray((one_hot[:, counts > 0] / counts[counts > 0]).T @ features, dtype=np.float64).mean(0)
    x = _unit((features - mean) / scale).astype(np.float32)
    # A class without images has no direction yet; any direction works.
    directions, sharpness = _unit(one_hot.T @ x + 1e-6), SHARPNESS
    for penalty in penalties:
        directions, sharpness = _minimise(x, one_hot, weight, penalty, directions, sharpness)
        yield Cosine(directions, sharpness, mean=mean, scale=scale)


def _minimise(
    x: npt.NDArray[np.float32], one_hot: Floats, weight: Floats, penalty: float, directions: Floats, sharpness: float
) -> tuple[Floats, float]:
    shape = directions.shape

    def loss(flat: Floats) -> tuple[float, Floats]:
        rows, sharp = flat[:-1].reshape(shape), flat[-1]
        length = np.linalg.norm(rows, axis=1, keepdims=True) + _LEAST
        unit = rows / length
        cosines = (x @ unit.T.astype(np.float32)).astype(np.float64)
        entropy, residual = cross_entropy(sharp * cosines, one_hot, weight)
        value = entropy + 0.5 * penalty * shape[0] * sharp**2
        slope = sharp * (residual.T.astype(np.float32) @ x)
        # Only the direction of a row changes the loss: its length does not.
        turning = (slope - (slope * unit).sum(1, keepdims=True) * unit) / length
        return float(value), np.append(turning.ravel(), (residual * cosines).sum() + penalty * shape[0] * sharp)

    start = np.append(directions.ravel(), sharpness)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=_LBFGS).x
    return _unit(found[:-1].reshape(shape)), float(found[-1])


def _unit(rows: npt.NDArray[np.floating]) -> Floats:
    return np.asarray(rows / (np.linalg.norm(rows, axis=1, keepdims=True) + _LEAST), dtype=np.float64)
