"""How much of the backbone to reuse: a linear probe after every group, compared by cross-validation.

The deepest features are not always the best: they know the source task best (Yosinski et al. 2014). The curve over
groups tells where to cut, and whether several groups read together (in the spirit of Head2Toe, Evci et al. 2022) beat
one. Only training images are looked at, and of many a sample.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from graft.errors import ParamsError
from graft.features import FeatureStore
from graft.intervals import wilson
from graft.params import TrainHeadParams
from graft.probe import PENALTIES, CrossValidated, Floats, Ints, balanced_weights, cross_validate, make_folds
from graft.progress import progress
from graft.sample import CHOICE_PER_CLASS, enough_to_choose, sample

MULTI_TAPS = (2, 3, 5)
"""How many of the best taps a multi-tap head may read."""
IMBALANCE = 1.5
"""The largest class over the smallest from which on classes are weighted."""


@dataclass(frozen=True)
class Evidence:
    """The training images' features and how the cross-validation cuts them."""

    store: FeatureStore
    train: Ints
    """Rows of all training images."""
    rows: Ints
    """Those that the choice is made from: all, or a sample of many (see `sample`)."""
    targets: Ints
    """Of `rows`."""
    folds: list[tuple[Ints, Ints]]
    class_weight: Floats | None
    penalties: tuple[float, ...]

    @property
    def n_classes(self) -> int:
        """Number of classes of the data, present in training or not."""
        return len(self.store.classes)

    def features(self, taps: Sequence[str], rows: Ints | None = None) -> npt.NDArray[np.float32]:
        """Return the features of `taps` side by side, (n, D), of the training rows or of `rows`."""
        return self.store.mapped(taps, self.rows if rows is None else rows).read()

    def widths(self, taps: Sequence[str]) -> tuple[int, ...]:
        """Return the number of features of each of `taps`."""
        return tuple(self.store.spec.taps[tap] for tap in taps)

    def cross_validate(self, taps: Sequence[str]) -> CrossValidated:
        """Cross-validate one linear head on the features of `taps`."""
        return cross_validate(
            self.features(taps),
            self.targets,
            self.n_classes,
            self.folds,
            self.penalties,
            self.class_weight,
            self.widths(taps),
        )


@dataclass(frozen=True)
class Reuse:
    """What was chosen, and everything it was chosen from."""

    taps: tuple[str, ...]
    """Groups the head reads; the last is where the backbone is cut."""
    chosen: CrossValidated
    curve: Mapping[str, CrossValidated]
    """Every group's own probe, in forward order."""
    reason: str


def gather(store: FeatureStore, params: TrainHeadParams) -> Evidence:
    """Collect what the choice is made from."""
    train = store.indices("train")
    targets = store.targets()[train]
    groups = store.table["group"].astype(str).to_numpy()[train]
    counts = np.bincount(targets, minlength=len(store.classes))
    weighted = params.class_weight == "balanced" or (
        params.class_weight == "auto" and counts.max() > IMBALANCE * max(1, counts[counts > 0].min())
    )
    chosen = sample(targets, groups, enough_to_choose(len(counts)), f"{params.seed} choice", CHOICE_PER_CLASS)
    targets, groups = targets[chosen], groups[chosen]
    return Evidence(
        store=store,
        train=train,
        rows=train[chosen],
        targets=targets,
        folds=make_folds(targets, groups, params.folds, params.seed),
        class_weight=balanced_weights(targets, len(counts)) if weighted else None,
        penalties=PENALTIES if params.l2 == "auto" else (params.l2,),
    )


def decide(evidence: Evidence, reuse_depth: str, head: str) -> Reuse:
    """Choose the groups that the head reads.

    Args:
        evidence: of the training images.
        reuse_depth: `auto`, `last` or a group's name.
        head: `auto`, `linear` (one group) or `multi_tap` (several).

    Raises:
        ParamsError: for a depth that is no group.
    """
    names = evidence.store.taps
    if reuse_depth not in ("auto", "last", *names):
        raise ParamsError(f"train_head.reuse_depth={reuse_depth!r}: expected auto, last or one of {', '.join(names)}")
    curve = {tap: evidence.cross_validate([tap]) for tap in progress(names, "probe after each group", unit="groups")}
    if reuse_depth == "auto":
        tap, reason = shallowest_of_equals(curve)
        below = names
    else:
        tap, reason = (names[-1] if reuse_depth == "last" else reuse_depth), f"asked for: {reuse_depth}"
        below = names[: names.index(tap) + 1]
    single = Reuse((tap,), curve[tap], curve, reason)
    if head == "linear" or len(below) < 2 or (head == "auto" and reuse_depth != "auto"):
        return single
    ranked = sorted(below, key=lambda name: curve[name].loss.mean())
    sets = [tuple(name for name in names if name in ranked[:many]) for many in MULTI_TAPS if many <= len(ranked)]
    tried = {taps: evidence.cross_validate(taps) for taps in sets}
    taps = min(tried, key=lambda taps: tried[taps].loss.mean())
    together = tried[taps]
    gain, error = paired(curve[tap].loss, together.loss)
    single_loss, joint_loss = curve[tap].loss.mean(), together.loss.mean()
    said = f"{len(taps)} groups together: log loss {joint_loss:.3f} against {single_loss:.3f} of {tap}"
    if head == "multi_tap" or gain > error:
        return Reuse(taps, together, curve, f"{said}, better by {gain:.3f} (standard error {error:.3f})")
    return Reuse((tap,), curve[tap], curve, f"{reason}; {said}: no clear gain")


def shallowest_of_equals(curve: Mapping[str, CrossValidated]) -> tuple[str, str]:
    """Return the shallowest group within one standard error of the best, and why.

    The standard error is of the paired difference in log loss: the same images are predicted by both probes, so it is
    far smaller than that of either loss.
    """
    best = min(curve, key=lambda tap: curve[tap].loss.mean())
    for tap, found in curve.items():
        worse, error = paired(found.loss, curve[best].loss)
        if tap == best or worse <= error:
            if tap == best:
                return tap, f"{tap} has the least cross-validated log loss ({found.loss.mean():.3f})"
            return tap, f"{tap} is within one standard error ({error:.3f}) of the best, {best}, and shallower"
    raise AssertionError("the best is within its own standard error")


def paired(first: Floats, second: Floats) -> tuple[float, float]:
    """Return the mean of `first - second` over images and its standard error."""
    difference = first - second
    return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))


def accuracy_interval(found: CrossValidated) -> tuple[float, float, float]:
    """Return cross-validated accuracy with its 95 % Wilson interval."""
    _, low, high = wilson(int(found.correct.sum()), len(found.correct))
    return float(found.correct.mean()), low, high
