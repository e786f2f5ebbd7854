"""The head with one hidden layer, for classes that are not linearly separable in feature space.

Few images with many features are easily overfitted, so both layers are penalised, and the penalty is cross-validated:
no training is stopped early, and only the start of the fit is random.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from graft.heads.nonlinear import cross_entropy, tap_scale, training_arrays
from graft.heads.protocols import FittedHead, Floats, Kind, TrainingSet

MLP_PENALTIES = (3e-3, 1e-3, 3e-4, 1e-4)
"""From strong to weak, for both layers, on features standardised and divided by the root of their number."""
FEWEST_UNITS, UNITS_PER_CLASS, MOST_UNITS = 16, 3, 256
_LBFGS = {"maxiter": 60, "gtol": 1e-5, "ftol": 1e-4, "maxcor": 8}
_COLLAPSED = 0.01
"""A fit that leaves less than this fraction of the weights is no start for a weaker penalty."""


@dataclass(frozen=True)
class Mlp(FittedHead):
    """A classifier with one hidden layer: `out @ silu(inner @ x + inner_bias) + bias`, x standardised."""

    kind: ClassVar[Kind] = "mlp"
    inner: Floats
    """(units, features)"""
    inner_bias: Floats
    out: Floats
    """(classes, units)"""
    bias: Floats

    def logits(self, features: npt.NDArray[np.floating]) -> Floats:
        """Return (n, classes) for (n, features)."""
        hidden = ((features - self.mean) / self.scale) @ self.inner.T + self.inner_bias
        return np.asarray((hidden * expit(hidden)) @ self.out.T + self.bias, dtype=np.float64)

    def layers(self) -> dict[str, Floats]:
        """Return weights and biases of both layers."""
        return {
            "hidden.0.weight": self.inner,
            "hidden.0.bias": self.inner_bias,
            "linear.weight": self.out,
            "linear.bias": self.bias,
        }


def fit_mlp(images: TrainingSet, penalties: Sequence[float]) -> Iterator[Mlp]:
    """Fit one classifier per penalty, strongest first, each started from the previous one.

    Minimises `mean(w_i * CE_i) + penalty / 2 * (||inner||^2 + ||out||^2)`, biases not penalised, over features
    standardised and divided by the root of their number, with full-batch L-BFGS.
    """
    features, one_hot, weight = training_arrays(images)
    mean, scale = tap_scale(features, images.widths)
    x = np.asarray((features - mean) / scale, dtype=np.float64) / np.sqrt(len(mean))
    # Few images span few directions, and weights in all others are zero at the optimum.
    basis = np.linalg.qr(x.T.astype(np.float32))[0] if len(x) < len(mean) else None
    problem = _Problem(
        x=(x if basis is None else x @ basis).astype(np.float32),
        one_hot=one_hot,
        weight=weight,
        units=min(max(FEWEST_UNITS, UNITS_PER_CLASS * images.task.outputs), MOST_UNITS),
    )
    beginning = problem.beginning()
    found = beginning
    for penalty in penalties:
        started = beginning if problem.size(found) < _COLLAPSED * problem.size(beginning) else found
        found = minimize(problem.loss, started, args=(penalty,), jac=True, method="L-BFGS-B", options=_LBFGS).x
        inner, inner_bias, out, bias = problem.parts(found)
        inner = (inner if basis is None else inner @ basis.T) / np.sqrt(len(mean))
        yield Mlp(inner, inner_bias.copy(), out.copy(), bias.copy(), mean=mean, scale=scale)


@dataclass(frozen=True)
class _Problem:
    x: npt.NDArray[np.float32]
    """(n, r), rows of about length one."""
    one_hot: Floats
    weight: Floats
    """(n,), of sum one."""
    units: int

    def beginning(self) -> Floats:
        """Return the start of the fit: hidden units in random directions, the logs of the classes' shares as biases."""
        generator = np.random.default_rng(0)
        inner = generator.normal(0, 1, (self.units, self.x.shape[1]))
        out = generator.normal(0, 1 / np.sqrt(self.units), (self.one_hot.shape[1], self.units))
        prior = np.log((self.weight @ self.one_hot + 1e-9) / self.weight.sum())
        return np.concatenate([inner.ravel(), np.zeros(self.units), out.ravel(), prior - prior.mean()])

    def parts(self, flat: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Return inner weights and biases, and those of the output layer."""
        units, width, classes = self.units, self.x.shape[1], self.one_hot.shape[1]
        inner, inner_bias, out, bias = np.split(flat, np.cumsum([units * width, units, classes * units]))
        return inner.reshape(units, width), inner_bias, out.reshape(classes, units), bias

    def size(self, flat: Floats) -> float:
        """Return the sum of squares of all penalised weights."""
        inner, _, out, _ = self.parts(flat)
        return float((inner**2).sum() + (out**2).sum())

    def loss(self, flat: Floats, penalty: float) -> tuple[float, Floats]:
        """Return the penalised loss and its gradient."""
        inner, inner_bias, out, bias = self.parts(flat)
        hidden = self.x @ inner.T.astype(np.float32) + inner_bias.astype(np.float32)
        gate = expit(hidden)
        active = hidden * gate
        logits = (active @ out.T.astype(np.float32)).astype(np.float64) + bias
        entropy, by_logits = cross_entropy(logits, self.one_hot, self.weight)
        residual = by_logits.astype(np.float32)
        back = (residual @ out.astype(np.float32)) * (gate + active * (1 - gate))
        gradient = [
            (back.T @ self.x + penalty * inner).ravel(),
            back.sum(0),
            (residual.T @ active + penalty * out).ravel(),
            residual.sum(0),
        ]
        return entropy + 0.5 * penalty * self.size(flat), np.concatenate(gradient).astype(np.float64)
