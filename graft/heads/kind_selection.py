"""Which kind of head reads the chosen groups: a linear one, unless another is clearly better.

The other kinds take far longer to fit. So each has a stand-in that is solved in closed form: ridge regression on the
features' directions for the cosine head, with a Gaussian kernel for the one with a hidden layer. A kind whose stand-in
is not clearly better (by more than a standard error) than plain ridge regression is not fitted.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graft.heads.cross_validation import CrossValidated
from graft.heads.lbfgs import single_threaded_blas
from graft.heads.protocols import Kind
from graft.heads.ridge import Spectrum, angular_spectrum, linear_spectrum, radial_spectrum

if TYPE_CHECKING:
    from graft.heads.head_inputs import HeadInputs

STAND_INS: Mapping[Kind, Callable[..., Spectrum]] = {"cosine": angular_spectrum, "mlp": radial_spectrum}
"""The kinds to compare with a linear one, and what stands in for each."""
MOST_COMPARED = 2000
"""Number of training images, evenly spaced, used to decide whether another kind is worth fitting to all of them."""
MOST_SCREENED = 1000
"""Number of training images, evenly spaced, that the stand-ins predict."""


@dataclass(frozen=True)
class KindChoice:
    """The chosen kind of head, and what it was compared with."""

    kind: Kind
    cross_validated: CrossValidated
    reason: str = ""
    """Clauses that follow the reason for the groups."""
    heads: Mapping[Kind, CrossValidated] = field(default_factory=dict)
    """The kinds that were fitted, if there were several."""


def choose_kind(inputs: "HeadInputs", taps: tuple[str, ...], linear: CrossValidated, head: str) -> KindChoice:
    """Choose the kind of head on `taps`.

    Args:
        inputs: features and folds of the training images.
        taps: the groups that the head reads.
        linear: a linear head on them.
        head: `auto`, or the kind that was asked for.
    """
    others: list[Kind] = [kind for kind in STAND_INS if kind in inputs.task.head_kinds and head in ("auto", kind)]
    if not others:
        return KindChoice("linear", linear)
    if head == "auto" and inputs.is_large(taps):
        return KindChoice(
            "linear", linear, f"; other kinds are only fitted to {inputs.task.outputs} classes on request"
        )
    reason = ""
    if head == "auto":
        others, reason = _promising(inputs.subsample(MOST_SCREENED), taps, others)
    if not others:
        return KindChoice("linear", linear, reason)
    trial = inputs.subsample(MOST_COMPARED) if head == "auto" else inputs
    heads: dict[Kind, CrossValidated] = {
        "linear": linear if trial is inputs else trial.cross_validate(taps),
        **{kind: trial.cross_validate(taps, kind) for kind in others},
    }
    gains = {kind: trial.compare(heads["linear"], heads[kind]) for kind in others}
    clear = [kind for kind, (gain, error) in gains.items() if head == kind or gain > error]
    best = min(clear or gains, key=lambda kind: heads[kind].loss.mean())
    loss, plain = heads[best].loss.mean(), heads["linear"].loss.mean()
    of = "" if trial is inputs else f", on {len(trial.rows):,} images"
    reason += f"; {best} head: log loss {loss:.3f} against {plain:.3f} of a linear one{of}"
    if not clear:
        return KindChoice("linear", linear, f"{reason}: no clear gain", heads)
    chosen = heads[best] if trial is inputs else inputs.cross_validate(taps, best)
    return KindChoice(best, chosen, f"{reason}, {describe_gain(*gains[best])}", heads)


def describe_gain(gain: float, error: float) -> str:
    """Return a difference in log loss in words."""
    return f"{'better' if gain >= 0 else 'worse'} by {abs(gain):.3f} (standard error {error:.3f})"


def _promising(inputs: "HeadInputs", taps: tuple[str, ...], kinds: list[Kind]) -> tuple[list[Kind], str]:
    """Return the kinds whose stand-in predicts held-out images clearly better, and a clause about the others."""
    features, widths = inputs.features(taps), inputs.widths(taps)
    with single_threaded_blas():
        plain = inputs.probe_spectrum(linear_spectrum(features, widths))
        tried = {kind: inputs.probe_spectrum(STAND_INS[kind](features, widths)) for kind in kinds}
    gains = {kind: inputs.compare(plain, found) for kind, found in tried.items()}
    promising = [kind for kind, (gain, error) in gains.items() if gain > error]
    told = [f"{kind} {describe_gain(*gains[kind])}" for kind in kinds if kind not in promising]
    return promising, f"; not fitted, by ridge regression in their place: {', '.join(told)}" if told else ""
