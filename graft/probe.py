"""Linear probes: multinomial logistic regression on cached features, with its whole penalty path cross-validated.

Every fit works in the coordinates of the features' singular vectors. There the penalised Hessian is nearly diagonal,
so that scaling each coordinate by it leaves L-BFGS a problem of about fifteen iterations whatever the penalty, and the
decomposition, the only costly part, is shared by the whole path (in the spirit of big_vision's closed-form probe).
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from threadpoolctl import threadpool_limits

from graft.cores import available_cores
from graft.fitted import Fit, Floats, Ints, Kind

PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""From strong to weak; of the mean loss, for features standardised and divided by the root of their number."""


SPREAD_FLOOR = 0.1
"""Least standard deviation of a feature, as a part of its tap's root mean square."""
_LBFGS = {"maxiter": 150, "gtol": 1e-5, "ftol": 1e-6, "maxcor": 20}


@dataclass(frozen=True)
class Linear:
    """A linear classifier of raw features: `x @ weight.T + bias`."""

    kind: ClassVar[Kind] = "linear"
    weight: Floats
    """(classes, features)"""
    bias: Floats
    """(classes,)"""
    mean: Floats
    scale: Floats
    """(features,): see `standardisation`; the fit was in these terms, the weights are of raw features."""

    @classmethod
    def of_raw(cls, weight: Floats, bias: Floats) -> "Linear":
        """Return the classifier of these rows and biases, which were not fitted to any features."""
        return cls(weight, bias, np.zeros(weight.shape[1]), np.ones(weight.shape[1]))

    def logits(self, features: npt.NDArray[np.floating]) -> Floats:
        """Return (n, classes) for (n, features)."""
        return np.asarray(features @ self.weight.T + self.bias, dtype=np.float64)

    def tensors(self) -> dict[str, Floats]:
        """Return the tensors of the `head.Head` that computes the same, by their names there."""
        return {
            "mean": self.mean,
            "scale": self.scale,
            "linear.weight": self.weight * self.scale,
            "linear.bias": self.bias + self.weight @ self.mean,
        }


def fit_path(
    features: npt.NDArray[np.floating],
    targets: Ints,
    n_classes: int,
    penalties: Sequence[float],
    sample_weight: Floats | None = None,
    widths: Sequence[int] | None = None,
    start: Linear | None = None,
) -> Iterator[Linear]:
    """Fit one classifier per penalty, strongest first, each started from the one before.

    Minimises `mean(w_i * CE_i) + penalty / 2 * ||W - W_start||^2` over features that are standardised and divided by
    the root of their number, so that a penalty means the same for any backbone and tap, and a wide tap beside a narrow
    one does not drown it. The bias is not penalised.

    Args:
        features: (n, d).
        targets: class indices (n,).
        n_classes: number of classes, some of which may be absent here.
        penalties: in descending order, for the warm starts to be short.
        sample_weight: (n,), of mean one; None for all equal.
        widths: number of features of each tap, where several are concatenated; None for one.
        start: what the weights are pulled to (L2-SP, Li et al. 2018); None for zero.
    """
    given = 0.0 if start is None else start.logits(features)
    x = np.asarray(features, dtype=np.float64)
    n, d = x.shape
    mean, spread = standardisation(x, widths)
    scale = spread * np.sqrt(np.repeat(widths, widths) if widths else d)
    x = (x - mean) / scale
    basis, spectrum = _basis(x)
    z = (x @ basis).astype(np.float32)
    weight = np.full(n, 1.0 / n) if sample_weight is None else sample_weight / n
    one_hot = np.eye(n_classes)[targets]
    prior = np.log((weight @ one_hot + 1e-9) / weight.sum())
    w, b = np.zeros((n_classes, z.shape[1])), prior - prior.mean()
    for penalty in penalties:
        w, b = _minimise(z, spectrum, one_hot, weight, penalty, w, b, given)
        raw = (w @ basis.T) / scale
        bias = b - raw @ mean
        if start is not None:
            raw, bias = raw + start.weight, bias + start.bias
        yield Linear(raw, bias, mean, spread)


def standardisation(features: npt.NDArray[np.floating], widths: Sequence[int] | None = None) -> tuple[Floats, Floats]:
    """Return mean and standard deviation (d,) of every feature, the latter with a floor.

    A feature that hardly ever fires on these images (a dead ReLU) has next to no spread; divided by it, the one image
    that does fire it, or the first step of fine-tuning, would drown all others. The floor is a part of the tap's
    typical spread.

    Args:
        features: (n, d).
        widths: number of features of each tap, where several are concatenated.
    """
    spread = np.asarray(features.std(0), dtype=np.float64)
    taps = np.split(spread, np.cumsum(widths or [len(spread)])[:-1])
    floors = [np.full(len(tap), SPREAD_FLOOR * np.sqrt(np.mean(tap**2)) + 1e-6) for tap in taps]
    return np.asarray(features.mean(0), dtype=np.float64), np.maximum(spread, np.concatenate(floors))


def _basis(x: Floats) -> tuple[Floats, Floats]:
    """Return the right singular vectors (d, r) of x and the mean square of x along each."""
    n, d = x.shape
    if n < d:
        values, left = np.linalg.eigh(x @ x.T)
        kept = values > values[-1] * 1e-10
        return x.T @ left[:, kept] / np.sqrt(values[kept]), values[kept] / n
    values, right = np.linalg.eigh(x.T @ x)
    kept = values > values[-1] * 1e-10
    return right[:, kept], values[kept] / n


def _minimise(
    z: npt.NDArray[np.float32],
    spectrum: Floats,
    one_hot: Floats,
    weight: Floats,
    penalty: float,
    w: Floats,
    b: Floats,
    given: Floats | float,
) -> tuple[Floats, Floats]:
    n_classes, r = w.shape
    # Curvature of the cross-entropy: about p (1 - p) with p near 1 / classes, times the spread of the coordinate.
    step = 1.0 / np.sqrt(spectrum / n_classes + penalty)

    def loss(flat: Floats) -> tuple[float, Floats]:
        theta = flat.reshape(n_classes, r + 1)
        scaled = theta[:, :r] * step
        log_p = log_softmax(z @ scaled.T.astype(np.float32) + theta[:, r] + given, axis=1)
        value = -(weight @ (one_hot * log_p).sum(1)) + 0.5 * penalty * (scaled**2).sum()
        residual = (np.exp(log_p) - one_hot) * weight[:, None]
        gradient = np.empty_like(theta)
        gradient[:, :r] = (residual.T.astype(np.float32) @ z + penalty * scaled) * step
        gradient[:, r] = residual.sum(0)
        return float(value), gradient.ravel()

    start = np.concatenate([w / step, b[:, None]], axis=1).ravel()
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=_LBFGS)
    theta = found.x.reshape(n_classes, r + 1)
    return theta[:, :r] * step, theta[:, r]


@dataclass(frozen=True)
class CrossValidated:
    """Out-of-fold predictions of a probe along its penalty path."""

    penalties: tuple[float, ...]
    probabilities: Floats
    """(penalties, n, classes), each row predicted by a probe that never saw it."""
    targets: Ints

    def losses(self) -> Floats:
        """Return the log loss of each image under each penalty, (penalties, n)."""
        picked = np.take_along_axis(self.probabilities, self.targets[None, :, None], axis=2)[:, :, 0]
        return -np.log(np.clip(picked, 1e-12, 1.0))

    @property
    def best(self) -> int:
        """Index of the penalty of least mean log loss."""
        return int(self.losses().mean(1).argmin())

    @property
    def penalty(self) -> float:
        """The penalty of least mean log loss."""
        return self.penalties[self.best]

    @property
    def loss(self) -> Floats:
        """Log loss of each image under the best penalty, (n,)."""
        return np.asarray(self.losses()[self.best])

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """Whether each image is right under the best penalty, (n,)."""
        return np.asarray(self.probabilities[self.best].argmax(1) == self.targets)


def cross_validate(
    features: npt.NDArray[np.floating],
    targets: Ints,
    n_classes: int,
    folds: Sequence[tuple[Ints, Ints]],
    penalties: Sequence[float] = PENALTIES,
    class_weight: Floats | None = None,
    widths: Sequence[int] | None = None,
    fit: Fit = fit_path,
) -> CrossValidated:
    """Predict every image by probes fitted without its fold, from the strongest penalty on until weaker ones hurt.

    Args:
        features: (n, d).
        targets: (n,).
        n_classes: number of classes.
        folds: (training rows, held-out rows) pairs, see `make_folds`.
        penalties: to try, strongest first; the path ends after two that were worse than the best before them.
        class_weight: (classes,); None for all equal.
        widths: number of features of each tap, where several are concatenated.
        fit: of the kind of head that is probed.
    """
    paths = [
        fit(
            features[train],
            targets[train],
            n_classes,
            penalties,
            None if class_weight is None else class_weight[targets[train]],
            widths,
        )
        for train, _ in folds
    ]
    probabilities: list[Floats] = []
    losses: list[float] = []
    # One fold per core, and none of them spinning for the other's core inside a matrix product.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(min(len(folds), available_cores())) as pool:
        for _ in penalties:
            predicted = np.zeros((len(targets), n_classes))
            for (_, held_out), probe in zip(folds, pool.map(next, paths), strict=True):
                predicted[held_out] = softmax(probe.logits(features[held_out]), axis=1)
            probabilities.append(predicted)
            losses.append(float(-np.log(np.clip(predicted[np.arange(len(targets)), targets], 1e-12, 1)).mean()))
            if len(losses) > 2 and min(losses[-2:]) > min(losses[:-2]):
                break
    return CrossValidated(tuple(penalties[: len(losses)]), np.stack(probabilities), targets)


def make_folds(
    targets: Ints, groups: Sequence[str] | npt.NDArray[np.object_], n_folds: int, seed: int
) -> list[tuple[Ints, Ints]]:
    """Split rows into folds, stratified by class, with the images of one group in one fold.

    There are fewer folds than asked for where the rarest class has fewer groups.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    names = np.asarray(groups)
    rarest = min(len(np.unique(names[targets == label])) for label in np.unique(targets))
    splitter = StratifiedGroupKFold(max(2, min(n_folds, rarest)), shuffle=True, random_state=seed)
    return [(train, held_out) for train, held_out in splitter.split(targets, targets, names)]


def balanced_weights(targets: Ints, n_classes: int) -> Floats:
    """Return (classes,) weights under which every class counts the same and the mean over images is one."""
    counts = np.bincount(targets, minlength=n_classes)
    return np.asarray(len(targets) / (np.count_nonzero(counts) * np.maximum(counts, 1)), dtype=np.float64)
