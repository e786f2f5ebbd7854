"""LogME: how well features suit labels, without training on them (You et al. 2021)."""

import numpy as np
import numpy.typing as npt

_ROUNDS, _CLOSE = 11, 1e-3
"""Fixed-point iterations as in the authors' code; relative change of the two precisions' ratio at convergence."""


def logme(features: npt.NDArray[np.floating], targets: npt.NDArray[np.int64], n_classes: int) -> float:
    """Return the mean log evidence per image and class of a Bayesian linear model of the labels; higher is better.

    For every class, a regression of its 0/1 labels on the features has a Gaussian prior of precision alpha and noise of
    precision beta; both are chosen to maximise the evidence by MacKay's fixed point, in the features' singular vectors.

    Args:
        features: (n, d).
        targets: class indices (n,).
        n_classes: number of classes; absent ones are left out.
    """
    x = np.asarray(features, dtype=np.float64)
    n, d = x.shape
    left, singular, _ = np.linalg.svd(x, full_matrices=False)
    spectrum = singular**2
    evidences = []
    for label in range(n_classes):
        y = (targets == label).astype(np.float64)
        if y.any():
            evidences.append(_evidence(left.T @ y, spectrum, float(y @ y), n, d))
    return float(np.mean(evidences))


def _evidence(z: npt.NDArray[np.float64], spectrum: npt.NDArray[np.float64], total: float, n: int, d: int) -> float:
    """Return the maximal log evidence over n.

    Args:
        z: the labels along the left singular vectors (r,).
        spectrum: squared singular values (r,).
        total: the labels' sum of squares.
        n: number of images.
        d: number of features.
    """
    alpha = beta = 1.0
    outside = max(0.0, total - float(z @ z))
    for _ in range(_ROUNDS):
        ratio = alpha / beta
        gamma = float((spectrum / (spectrum + ratio)).sum())
        weights = float((spectrum * z**2 / (spectrum + ratio) ** 2).sum())
        residual = float((z**2 / (1 + spectrum / ratio) ** 2).sum()) + outside
        alpha, beta = gamma / (weights + 1e-5), (n - gamma) / (residual + 1e-5)
        if abs(alpha / beta - ratio) <= _CLOSE * ratio:
            break
    ratio = alpha / beta
    weights = float((spectrum * z**2 / (spectrum + ratio) ** 2).sum())
    residual = float((z**2 / (1 + spectrum / ratio) ** 2).sum()) + outside
    determinant = float(np.log(alpha + beta * spectrum).sum()) + (d - len(spectrum)) * np.log(alpha)
    value = (
        d * np.log(alpha) + n * np.log(beta) - determinant - beta * residual - alpha * weights - n * np.log(2 * np.pi)
    )
    return float(value / (2 * n))
