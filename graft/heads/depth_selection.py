"""How much of the backbone to reuse: a linear probe after every group, compared by cross-validation.

The deepest features are not always the best: they are specialised for the source task (Yosinski et al. 2014). The curve
over groups shows where to cut, and whether a head on several groups (in the spirit of Head2Toe, Evci et al. 2022) beats
one. Only training images are used; of many, a sample.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from graft.backbones.feature_store import FeatureStore
from graft.core.errors import ParamsError
from graft.core.progress import progress
from graft.heads.families import Family, family
from graft.heads.label_overlap import Overlap, find_overlap, starting_rows
from graft.heads.linear_probe import CrossValidated, Linear, cross_validate, make_folds
from graft.heads.protocols import Floats, Ints, Kind
from graft.runs.params import TrainHeadParams
from graft.stats.confidence_intervals import wilson
from graft.stats.paired_difference import paired_difference
from graft.stats.subsampling import CHOICE_PER_CLASS, evenly_spaced, sample, selection_size
from graft.tasks.task import Targets, Task

MULTI_TAPS = (2, 3, 5)
"""How many of the best taps a multi-tap head may read."""
IMBALANCE = 1.5
"""With `auto`, classes are weighted if the largest is more than this many times the smallest."""
ALTERNATIVES: tuple[Kind, ...] = ("cosine", "mlp")
"""Kinds of head to compare with a linear one, once the groups are chosen."""
MOST_COMPARED = 2000
"""Number of training images, evenly spaced, used to decide whether another kind is worth fitting to all of them."""


@dataclass(frozen=True)
class HeadInputs:
    """What a head is chosen by and fitted to: the training images' features and the cross-validation folds."""

    store: FeatureStore
    train: Ints
    """Rows of all training images."""
    rows: Ints
    """Rows used for the choice: all, or a sample of many (see `sample`)."""
    targets: Targets
    """Of `rows`."""
    folds: list[tuple[Ints, Ints]]
    label_weights: Floats | None
    """Weights of the task's labels, if all labels should count the same."""
    l2: float | None
    """The requested penalty; None if it is cross-validated."""
    overlap: Overlap | None
    """Which classes the source classifier knows."""
    start: Linear | None
    """The source classifier's rows, if the head should start from them."""

    @property
    def task(self) -> Task:
        """What is learnt."""
        return self.store.task

    def features(self, taps: Sequence[str], rows: Ints | None = None) -> npt.NDArray[np.float32]:
        """Return the concatenated features of `taps`, (n, D), of the rows used for the choice or of `rows`."""
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
        """Return the penalties to try for one kind of head, strongest first."""
        return heads.penalties if self.l2 is None else (self.l2,)

    def subsample(self, most: int) -> "HeadInputs":
        """Return the same inputs for at most `most` images, evenly spaced."""
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
class HeadChoice:
    """The chosen taps and kind of head, and what they were compared with."""

    taps: tuple[str, ...]
    """Groups the head reads; the backbone is cut after the last one."""
    cross_validated: CrossValidated
    """Of the chosen head."""
    curve: Mapping[str, CrossValidated]
    """Every group's own probe, in forward order."""
    reason: str
    kind: Kind = "linear"
    start: Linear | None = None
    """The rows that the head is pulled to, on the last of `taps`."""
    heads: Mapping[Kind, CrossValidated] = field(default_factory=dict)
    """The kinds of head that were compared on `taps`, if there were several: on at most `MOST_COMPARED` images."""


def prepare_head_inputs(store: FeatureStore, params: TrainHeadParams) -> HeadInputs:
    """Collect the training images' features, folds and weights.

    Raises:
        ParamsError: for a class or a label of the source classifier that does not exist.
        ModelError: if the source classifier's labels are requested, but it has none that can be used.
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
    chosen = sample(strata, groups, selection_size(task.outputs), f"{params.seed} choice", CHOICE_PER_CLASS)
    targets, groups = targets[chosen], groups[chosen]
    return HeadInputs(
        store=store,
        train=train,
        rows=train[chosen],
        targets=targets,
        folds=make_folds(strata[chosen], groups, params.folds, params.seed),
        label_weights=task.label_weights(targets) if weighted else None,
        l2=None if params.l2 == "auto" else params.l2,
        overlap=overlap,
        start=starting_rows(overlap, store.classes) if overlap and params.init == "source_labels" else None,
    )


def choose_head(inputs: HeadInputs, reuse_depth: str, head: str) -> HeadChoice:
    """Choose the groups that the head reads and its kind.

    Args:
        inputs: features and folds of the training images.
        reuse_depth: `auto`, `last` or a group's name.
        head: `auto`, `linear` (one group), `multi_tap` (a linear one on several), `mlp` or `cosine`.

    Raises:
        ParamsError: for a depth that is no group, or a head that cannot start from the source classifier's rows.
    """
    names = inputs.store.taps
    if reuse_depth not in ("auto", "last", *names):
        raise ParamsError(f"train_head.reuse_depth={reuse_depth!r}: expected auto, last or one of {', '.join(names)}")
    known = inputs.task.head_kinds
    if head not in ("auto", *known):
        raise ParamsError(f"train_head.head={head!r}: the task {inputs.task.name!r} is learnt by {', '.join(known)}")
    if inputs.start is not None:
        _check_start(names, reuse_depth, head)
    curve = {tap: inputs.cross_validate([tap]) for tap in progress(names, "probe after each group", unit="groups")}
    if inputs.start is not None:
        return _pulled(inputs, curve, inputs.start)
    linear = _linear(inputs, curve, reuse_depth, head)
    others = [kind for kind in ALTERNATIVES if kind in known]
    return linear if head in ("linear", "multi_tap") or not others else _of_kind(inputs, linear, head)


def _linear(inputs: HeadInputs, curve: Mapping[str, CrossValidated], reuse_depth: str, head: str) -> HeadChoice:
    """Choose the groups, by linear heads."""
    names = inputs.store.taps
    if reuse_depth == "auto":
        tap, reason = shallowest_equivalent_tap(curve)
        below = names
    else:
        tap, reason = (names[-1] if reuse_depth == "last" else reuse_depth), f"asked for: {reuse_depth}"
        below = names[: names.index(tap) + 1]
    single = HeadChoice((tap,), curve[tap], curve, reason)
    if head == "linear" or len(below) < 2 or (head != "multi_tap" and reuse_depth != "auto"):
        return single
    ranked = sorted(below, key=lambda name: curve[name].loss.mean())
    sets = [tuple(name for name in names if name in ranked[:many]) for many in MULTI_TAPS if many <= len(ranked)]
    tried = {taps: inputs.cross_validate(taps) for taps in sets}
    taps = min(tried, key=lambda taps: tried[taps].loss.mean())
    together = tried[taps]
    gain, error = paired_difference(curve[tap].loss, together.loss)
    single_loss, joint_loss = curve[tap].loss.mean(), together.loss.mean()
    comparison = f"{len(taps)} groups together: log loss {joint_loss:.3f} against {single_loss:.3f} of {tap}"
    if head == "multi_tap" or gain > error:
        return HeadChoice(taps, together, curve, f"{comparison}, better by {gain:.3f} (standard error {error:.3f})")
    return HeadChoice((tap,), curve[tap], curve, f"{reason}; {comparison}: no clear gain")


def _of_kind(inputs: HeadInputs, linear: HeadChoice, head: str) -> HeadChoice:
    """Choose the kind of head on the chosen groups: a linear one unless another is clearly better."""
    trial = inputs.subsample(MOST_COMPARED) if head == "auto" else inputs
    heads: dict[Kind, CrossValidated] = {
        "linear": linear.cross_validated if trial is inputs else trial.cross_validate(linear.taps),
        **{kind: trial.cross_validate(linear.taps, kind) for kind in ALTERNATIVES if head in ("auto", kind)},
    }
    gains = {kind: paired_difference(heads["linear"].loss, heads[kind].loss) for kind in heads if kind != "linear"}
    clear = [kind for kind, (gain, error) in gains.items() if head == kind or gain > error]
    best = min(clear or gains, key=lambda kind: heads[kind].loss.mean())
    loss, plain = heads[best].loss.mean(), heads["linear"].loss.mean()
    of = "" if trial is inputs else f", on {len(trial.rows):,} images"
    reason = f"{linear.reason}; {best} head: log loss {loss:.3f} against {plain:.3f} of a linear one{of}"
    if not clear:
        return replace(linear, reason=f"{reason}: no clear gain", heads=heads)
    chosen = heads[best] if trial is inputs else inputs.cross_validate(linear.taps, best)
    return replace(linear, cross_validated=chosen, reason=f"{reason}, {_better(*gains[best])}", kind=best, heads=heads)


def _check_start(names: Sequence[str], reuse_depth: str, head: str) -> None:
    """Refuse choices that cannot start from the source classifier's rows: they are linear, and read the last group."""
    if reuse_depth not in ("auto", "last", names[-1]):
        raise ParamsError(
            f"train_head.reuse_depth={reuse_depth!r}: with init='source_labels' expected auto, last or {names[-1]}, "
            "the group that the source's output layer reads"
        )
    if head not in ("auto", "linear"):
        raise ParamsError(
            f"train_head.head={head!r}: with init='source_labels' expected auto or linear, as the source's layer is"
        )


def _pulled(inputs: HeadInputs, curve: Mapping[str, CrossValidated], start: Linear) -> HeadChoice:
    """Choose the last group and a head that is pulled to the source's rows."""
    last = inputs.store.taps[-1]
    found = inputs.cross_validate([last], start=start)
    gain, error = paired_difference(curve[last].loss, found.loss)
    reason = (
        f"started from the source's output layer, which reads {last}: log loss {found.loss.mean():.3f} against "
        f"{curve[last].loss.mean():.3f} without, {_better(gain, error)}"
    )
    return HeadChoice((last,), found, curve, reason, start=start)


def _better(gain: float, error: float) -> str:
    return f"{'better' if gain >= 0 else 'worse'} by {abs(gain):.3f} (standard error {error:.3f})"


def shallowest_equivalent_tap(curve: Mapping[str, CrossValidated]) -> tuple[str, str]:
    """Return the shallowest group within one standard error of the best, and the reason.

    The standard error is that of the paired difference in log loss: both probes predict the same images, so it is far
    smaller than that of either loss.
    """
    best = min(curve, key=lambda tap: curve[tap].loss.mean())
    for tap, found in curve.items():
        worse, error = paired_difference(found.loss, curve[best].loss)
        if tap == best or worse <= error:
            if tap == best:
                return tap, f"{tap} has the least cross-validated log loss ({found.loss.mean():.3f})"
            return tap, f"{tap} is within one standard error ({error:.3f}) of the best, {best}, and shallower"
    raise AssertionError("the best is within its own standard error")


def accuracy_interval(found: CrossValidated) -> tuple[float, float, float]:
    """Return cross-validated accuracy with its 95 % Wilson interval."""
    _, low, high = wilson(int(found.correct.sum()), len(found.correct))
    return float(found.correct.mean()), low, high
