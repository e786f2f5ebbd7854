"""How much of the backbone to reuse: a linear probe after every group, compared by cross-validation.

The deepest features are not always the best: they know the source task best (Yosinski et al. 2014). The curve over
groups tells where to cut, and whether several groups read together (in the spirit of Head2Toe, Evci et al. 2022) beat
one. Only training images are looked at, and of many a sample.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from graft.backbones.feature_store import FeatureStore
from graft.core.errors import ParamsError
from graft.core.progress import progress
from graft.heads.families import Family, family
from graft.heads.label_overlap import Overlap, find_overlap, start_of
from graft.heads.linear_probe import CrossValidated, Linear, cross_validate, make_folds
from graft.heads.protocols import Floats, Ints, Kind
from graft.runs.params import TrainHeadParams
from graft.stats.confidence_intervals import wilson
from graft.stats.subsampling import CHOICE_PER_CLASS, enough_to_choose, evenly_spaced, sample
from graft.tasks.task import Targets, Task

MULTI_TAPS = (2, 3, 5)
"""How many of the best taps a multi-tap head may read."""
IMBALANCE = 1.5
"""The largest class over the smallest from which on classes are weighted."""
ALTERNATIVES: tuple[Kind, ...] = ("cosine", "mlp")
"""Kinds of head that a linear one is compared with, once the groups are chosen."""
MOST_COMPARED = 2000
"""So many training images, evenly spaced, tell whether another kind is worth fitting to all of them."""


@dataclass(frozen=True)
class Evidence:
    """The training images' features and how the cross-validation cuts them."""

    store: FeatureStore
    train: Ints
    """Rows of all training images."""
    rows: Ints
    """Those that the choice is made from: all, or a sample of many (see `sample`)."""
    targets: Targets
    """Of `rows`."""
    folds: list[tuple[Ints, Ints]]
    label_weights: Floats | None
    """Of the task's labels, if they are to count the same."""
    l2: float | None
    """The penalty that was asked for; None where it is cross-validated."""
    overlap: Overlap | None
    """Which classes the source classifier knows."""
    start: Linear | None
    """Its rows, if the head shall start from them."""

    @property
    def task(self) -> Task:
        """What is learnt."""
        return self.store.task

    def features(self, taps: Sequence[str], rows: Ints | None = None) -> npt.NDArray[np.float32]:
        """Return the features of `taps` side by side, (n, D), of the training rows or of `rows`."""
        return self.store.mapped(taps, self.rows if rows is None else rows).read()

    def widths(self, taps: Sequence[str]) -> tuple[int, ...]:
        """Return the number of features of each of `taps`."""
        return tuple(self.store.spec.taps[tap] for tap in taps)

    def cross_validate(self, taps: Sequence[str], kind: Kind = "linear", start: Linear | None = None) -> CrossValidated:
        """Cross-validate one kind of head on the features of `taps`, pulled to the rows of `start` if given."""
        heads = family(kind, start)
        return cross_validate(
            self.features(taps),
            self.targets,
            self.task,
            self.folds,
            self.penalties(heads),
            self.label_weights,
            self.widths(taps),
            None if kind == "linear" else heads.fit,
            start,
        )

    def penalties(self, heads: Family) -> tuple[float, ...]:
        """Return what one kind of head may be fitted with, strongest first."""
        return heads.penalties if self.l2 is None else (self.l2,)

    def some(self, most: int) -> "Evidence":
        """Return the same of at most so many images, evenly spaced."""
        if len(self.rows) <= most:
            return self
        kept = evenly_spaced(len(self.rows), most)
        place = np.full(len(self.rows), -1)
        place[kept] = np.arange(most)

        def within(part: Ints) -> Ints:
            return place[part][place[part] >= 0]

        folds = [(within(train), within(held_out)) for train, held_out in self.folds]
        return replace(self, rows=self.rows[kept], targets=self.targets[kept], folds=folds)


@dataclass(frozen=True)
class Reuse:
    """What was chosen, and everything it was chosen from."""

    taps: tuple[str, ...]
    """Groups the head reads; the last is where the backbone is cut."""
    chosen: CrossValidated
    curve: Mapping[str, CrossValidated]
    """Every group's own probe, in forward order."""
    reason: str
    kind: Kind = "linear"
    start: Linear | None = None
    """The rows that the head is pulled to, on the last of `taps`."""
    heads: Mapping[Kind, CrossValidated] = field(default_factory=dict)
    """The kinds of head that were compared on `taps`, if there were several: on at most `MOST_COMPARED` images."""


def gather(store: FeatureStore, params: TrainHeadParams) -> Evidence:
    """Collect what the choice is made from.

    Raises:
        ParamsError: for a class or a label of the source classifier that does not exist.
        ModelError: if its labels are asked for, and it has none that can be used.
    """
    task = store.task
    overlap = find_overlap(store, params) if task.exclusive else None
    train = store.labelled("train")
    targets = store.targets()[train]
    groups = store.table["group"].astype(str).to_numpy()[train]
    weighted = params.class_weight == "balanced" or (
        params.class_weight == "auto" and task.imbalance(targets) > IMBALANCE
    )
    strata = task.strata(targets)
    chosen = sample(strata, groups, enough_to_choose(task.outputs), f"{params.seed} choice", CHOICE_PER_CLASS)
    targets, groups = targets[chosen], groups[chosen]
    return Evidence(
        store=store,
        train=train,
        rows=train[chosen],
        targets=targets,
        folds=make_folds(strata[chosen], groups, params.folds, params.seed),
        label_weights=task.label_weights(targets) if weighted else None,
        l2=None if params.l2 == "auto" else params.l2,
        overlap=overlap,
        start=start_of(overlap, store.classes) if overlap and params.init == "source_labels" else None,
    )


def decide(evidence: Evidence, reuse_depth: str, head: str) -> Reuse:
    """Choose the groups that the head reads, and its kind.

    Args:
        evidence: of the training images.
        reuse_depth: `auto`, `last` or a group's name.
        head: `auto`, `linear` (one group), `multi_tap` (a linear one on several), `mlp` or `cosine`.

    Raises:
        ParamsError: for a depth that is no group, or a head that cannot start from the source classifier's rows.
    """
    names = evidence.store.taps
    if reuse_depth not in ("auto", "last", *names):
        raise ParamsError(f"train_head.reuse_depth={reuse_depth!r}: expected auto, last or one of {', '.join(names)}")
    known = evidence.task.head_kinds
    if head not in ("auto", *known):
        raise ParamsError(f"train_head.head={head!r}: the task {evidence.task.name!r} is learnt by {', '.join(known)}")
    if evidence.start is not None:
        _check_start(names, reuse_depth, head)
    curve = {tap: evidence.cross_validate([tap]) for tap in progress(names, "probe after each group", unit="groups")}
    if evidence.start is not None:
        return _pulled(evidence, curve, evidence.start)
    linear = _linear(evidence, curve, reuse_depth, head)
    others = [kind for kind in ALTERNATIVES if kind in known]
    return linear if head in ("linear", "multi_tap") or not others else _of_kind(evidence, linear, head)


def _linear(evidence: Evidence, curve: Mapping[str, CrossValidated], reuse_depth: str, head: str) -> Reuse:
    """Choose the groups, by linear heads."""
    names = evidence.store.taps
    if reuse_depth == "auto":
        tap, reason = shallowest_of_equals(curve)
        below = names
    else:
        tap, reason = (names[-1] if reuse_depth == "last" else reuse_depth), f"asked for: {reuse_depth}"
        below = names[: names.index(tap) + 1]
    single = Reuse((tap,), curve[tap], curve, reason)
    if head == "linear" or len(below) < 2 or (head != "multi_tap" and reuse_depth != "auto"):
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


def _of_kind(evidence: Evidence, linear: Reuse, head: str) -> Reuse:
    """Choose the kind of head on the groups that are chosen: a linear one unless another is clearly better."""
    trial = evidence.some(MOST_COMPARED) if head == "auto" else evidence
    heads: dict[Kind, CrossValidated] = {
        "linear": linear.chosen if trial is evidence else trial.cross_validate(linear.taps),
        **{kind: trial.cross_validate(linear.taps, kind) for kind in ALTERNATIVES if head in ("auto", kind)},
    }
    gains = {kind: paired(heads["linear"].loss, heads[kind].loss) for kind in heads if kind != "linear"}
    clear = [kind for kind, (gain, error) in gains.items() if head == kind or gain > error]
    best = min(clear or gains, key=lambda kind: heads[kind].loss.mean())
    loss, plain = heads[best].loss.mean(), heads["linear"].loss.mean()
    of = "" if trial is evidence else f", on {len(trial.rows):,} images"
    said = f"{linear.reason}; {best} head: log loss {loss:.3f} against {plain:.3f} of a linear one{of}"
    if not clear:
        return replace(linear, reason=f"{said}: no clear gain", heads=heads)
    chosen = heads[best] if trial is evidence else evidence.cross_validate(linear.taps, best)
    return replace(linear, chosen=chosen, reason=f"{said}, {_better(*gains[best])}", kind=best, heads=heads)


def _check_start(names: Sequence[str], reuse_depth: str, head: str) -> None:
    """Refuse what cannot start from the source classifier's rows: they are linear, and read the last group."""
    if reuse_depth not in ("auto", "last", names[-1]):
        raise ParamsError(
            f"train_head.reuse_depth={reuse_depth!r}: with init='source_labels' expected auto, last or {names[-1]}, "
            "the group that the source's labels are read from"
        )
    if head not in ("auto", "linear"):
        raise ParamsError(
            f"train_head.head={head!r}: with init='source_labels' expected auto or linear: the source's output layer is"
        )


def _pulled(evidence: Evidence, curve: Mapping[str, CrossValidated], start: Linear) -> Reuse:
    """Take the last group, and a head that is pulled to the source's rows."""
    last = evidence.store.taps[-1]
    found = evidence.cross_validate([last], start=start)
    gain, error = paired(curve[last].loss, found.loss)
    reason = (
        f"started from the source's labels, which are read from {last}: log loss {found.loss.mean():.3f} against "
        f"{curve[last].loss.mean():.3f} without, {_better(gain, error)}"
    )
    return Reuse((last,), found, curve, reason, start=start)


def _better(gain: float, error: float) -> str:
    return f"{'better' if gain >= 0 else 'worse'} by {abs(gain):.3f} (standard error {error:.3f})"


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
