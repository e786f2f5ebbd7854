"""How much of the backbone to reuse: a probe after every group, compared on held-out images.

The deepest features are not always the best: they are specialised for the source task (Yosinski et al. 2014). The curve
over groups shows where to cut, and whether a head on several groups (in the spirit of Head2Toe, Evci et al. 2022) beats
one. Groups are compared by ridge probes, which are solved in closed form; a head on several groups must also win as it
will be used, and only the heads on the chosen groups are fitted. Only training images are used; of many, a sample.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from graft.backbones.feature_store import FeatureStore
from graft.core.cpu import available_cores
from graft.core.errors import ParamsError
from graft.core.progress import progress
from graft.heads.cross_validation import LARGE, CrossValidated, cross_validate, judged_rows, make_folds
from graft.heads.families import Family, family
from graft.heads.kind_selection import choose_kind, describe_gain
from graft.heads.label_overlap import Overlap, find_overlap, starting_rows
from graft.heads.lbfgs import single_threaded_blas
from graft.heads.linear_probe import Linear
from graft.heads.protocols import Floats, Ints, Kind
from graft.heads.ridge import RidgeProbe, Spectrum, linear_spectrum, probe
from graft.params.train_head import TrainHeadParams
from graft.stats.confidence_intervals import wilson
from graft.stats.paired_difference import PairedDifference, paired_difference
from graft.stats.subsampling import CHOICE_PER_CLASS, evenly_spaced, sample, selection_size
from graft.tasks.task import Bools, Targets, Task

MULTI_TAPS = (2, 3, 5)
"""How many of the best taps a multi-tap head may read."""
IMBALANCE = 1.5
"""With `auto`, classes are weighted if the largest is more than this many times the smallest."""

Scored = CrossValidated | RidgeProbe
"""Held-out predictions of the judged images: `loss` and `correct` of each, and the `penalty` they were made with."""


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
    groups: npt.NDArray[np.object_]
    """Names, of `rows`: images of one group stay in one fold, and count as one in standard errors."""
    folds: list[tuple[Ints, Ints]]
    judged: Bools
    """Of `rows`: those whose class also has images in the other folds; only their predictions count."""
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
            self.label_weights if heads.weighs else None,
            self.widths(taps),
            None if kind == "linear" else heads.fit,
            start,
            self.judged,
        )

    def probe(self, taps: Sequence[str]) -> RidgeProbe:
        """Return how well the features of `taps` predict held-out images, in closed form."""
        return self.probe_spectrum(linear_spectrum(self.features(taps), self.widths(taps)))

    def probe_spectrum(self, spectrum: Spectrum) -> RidgeProbe:
        """Return how well ridge regression on this spectrum of `rows` predicts held-out images."""
        return probe(spectrum, self.targets, self.task, self.folds, self.groups, self.judged)

    def compare(self, before: Scored, after: Scored) -> PairedDifference:
        """Return by how much the log loss falls from one to the other, with its error between groups."""
        return paired_difference(before.loss, after.loss, self.groups[self.judged])

    def excluded(self) -> str:
        """Return which images cannot be judged, as a clause; empty if all can."""
        out = self.task.strata(self.targets)[~self.judged]
        if not len(out):
            return ""
        classes = len(np.unique(out))
        return (
            f"{len(out)} image{'s' * (len(out) > 1)} of {classes} class{'es' * (classes > 1)} with a single group left "
            "out of every comparison and of calibration"
        )

    def penalties(self, heads: Family) -> tuple[float, ...]:
        """Return the penalties to try for one kind of head, strongest first."""
        return heads.penalties if self.l2 is None else (self.l2,)

    def is_large(self, taps: Sequence[str]) -> bool:
        """Return whether fitting a head to `taps` takes so long that only what is needed is fitted."""
        return len(self.rows) * sum(self.widths(taps)) * self.task.outputs > LARGE

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
        targets = self.targets[kept]
        return replace(
            self,
            rows=self.rows[kept],
            targets=targets,
            groups=self.groups[kept],
            folds=folds,
            judged=_judged(self.task, targets, folds),
        )


@dataclass(frozen=True)
class HeadChoice:
    """The chosen taps and kind of head, and what they were compared with."""

    taps: tuple[str, ...]
    """Groups the head reads; the backbone is cut after the last one."""
    cross_validated: CrossValidated
    """Of the chosen head."""
    curve: Mapping[str, RidgeProbe]
    """Every group's own ridge probe, in forward order."""
    reason: str
    kind: Kind = "linear"
    start: Linear | None = None
    """The rows that the head is pulled to, on the last of `taps`."""
    heads: Mapping[Kind, CrossValidated] = field(default_factory=dict)
    """The kinds of head that were fitted and compared on `taps`, if there were several: on at most
    `kind_selection.MOST_COMPARED` images."""


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
    folds = make_folds(strata[chosen], groups, params.folds, params.seed)
    return HeadInputs(
        store=store,
        train=train,
        rows=train[chosen],
        targets=targets,
        groups=groups,
        folds=folds,
        judged=_judged(task, targets, folds),
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
    curve = _probe_all(inputs, [(name,) for name in names], "probe after each group")
    single = {name: curve[(name,)] for name in names}
    if inputs.start is not None:
        return _pulled(inputs, single, inputs.start)
    linear = _choose_linear(inputs, single, reuse_depth, head)
    found = choose_kind(inputs, linear.taps, linear.cross_validated, head)
    excluded = inputs.excluded()
    reason = f"{linear.reason}{found.reason}{f'; {excluded}' if excluded else ''}"
    return HeadChoice(linear.taps, found.cross_validated, single, reason, found.kind, heads=found.heads)


def _choose_linear(inputs: HeadInputs, curve: Mapping[str, RidgeProbe], reuse_depth: str, head: str) -> HeadChoice:
    """Choose the groups that the head reads, and cross-validate a linear head on them."""
    names = inputs.store.taps
    if reuse_depth == "auto":
        tap, reason = shallowest_equivalent_tap(curve, inputs.groups[inputs.judged])
        below = names
    else:
        tap, reason = (names[-1] if reuse_depth == "last" else reuse_depth), f"asked for: {reuse_depth}"
        below = names[: names.index(tap) + 1]
    if head == "linear" or len(below) < 2 or (head != "multi_tap" and reuse_depth != "auto"):
        return HeadChoice((tap,), inputs.cross_validate([tap]), curve, reason)
    ranked = sorted(below, key=lambda name: curve[name].loss.mean())
    sets = [tuple(name for name in names if name in ranked[:many]) for many in MULTI_TAPS if many <= len(ranked)]
    tried = _probe_all(inputs, sets, "probe several groups together")
    taps = min(tried, key=lambda taps: tried[taps].loss.mean())
    best = ranked[0]
    gain, error = inputs.compare(curve[best], tried[taps])
    comparison = (
        f"{len(taps)} groups together: log loss {tried[taps].loss.mean():.3f} against {curve[best].loss.mean():.3f} "
        f"of {best}, the best single one"
    )
    if head != "multi_tap" and gain <= error:
        return HeadChoice((tap,), inputs.cross_validate([tap]), curve, f"{reason}; {comparison}: no clear gain")
    comparison = f"{comparison}, {describe_gain(gain, error)}"
    together = inputs.cross_validate(taps)
    if head == "multi_tap" or inputs.is_large(taps):
        return HeadChoice(taps, together, curve, comparison)
    alone = inputs.cross_validate([best])
    gain, error = inputs.compare(alone, together)
    fitted = f"as logistic regression {together.loss.mean():.3f} against {alone.loss.mean():.3f}"
    if gain > error:
        return HeadChoice(taps, together, curve, f"{comparison}; {fitted}, {describe_gain(gain, error)}")
    shallower = alone if tap == best else inputs.cross_validate([tap])
    return HeadChoice((tap,), shallower, curve, f"{reason}; {comparison}; {fitted}: no clear gain")


def _probe_all(inputs: HeadInputs, sets: Sequence[tuple[str, ...]], what: str) -> dict[tuple[str, ...], RidgeProbe]:
    """Probe several sets of groups, one per core."""
    with single_threaded_blas(), ThreadPoolExecutor(min(len(sets), available_cores())) as pool:
        found = pool.map(inputs.probe, sets)
        return dict(zip(sets, progress(found, what, total=len(sets), unit="probes"), strict=True))


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


def _pulled(inputs: HeadInputs, curve: Mapping[str, RidgeProbe], start: Linear) -> HeadChoice:
    """Choose the last group and a head that is pulled to the source's rows."""
    last = inputs.store.taps[-1]
    plain, found = inputs.cross_validate([last]), inputs.cross_validate([last], start=start)
    gain, error = inputs.compare(plain, found)
    reason = (
        f"started from the source's output layer, which reads {last}: log loss {found.loss.mean():.3f} against "
        f"{plain.loss.mean():.3f} without, {describe_gain(gain, error)}"
    )
    return HeadChoice((last,), found, curve, reason, start=start)


def _judged(task: Task, targets: Targets, folds: Sequence[tuple[Ints, Ints]]) -> Bools:
    """Return which images can be judged; if labels do not exclude each other, all: each is learnt on its own."""
    return judged_rows(task.strata(targets), folds) if task.exclusive else np.ones(len(targets), dtype=np.bool_)


def shallowest_equivalent_tap(curve: Mapping[str, Scored], groups: npt.NDArray[np.object_]) -> tuple[str, str]:
    """Return the shallowest group of the backbone within one standard error of the best, and the reason.

    The standard error is that of the paired difference in log loss: both probes predict the same images, so it is far
    smaller than that of either loss.

    Args:
        curve: by group, in forward order.
        groups: the images' own groups, (n,): the error is counted between them.
    """
    best = min(curve, key=lambda tap: curve[tap].loss.mean())
    for tap, found in curve.items():
        worse, error = paired_difference(found.loss, curve[best].loss, groups)
        if tap == best or worse <= error:
            if tap == best:
                return tap, f"{tap} has the least held-out log loss ({found.loss.mean():.3f})"
            return tap, f"{tap} is within one standard error ({error:.3f}) of the best, {best}, and shallower"
    raise AssertionError("the best is within its own standard error")


def accuracy_interval(found: Scored) -> tuple[float, float, float]:
    """Return held-out accuracy with its 95 % Wilson interval."""
    _, low, high = wilson(int(found.correct.sum()), len(found.correct))
    return float(found.correct.mean()), low, high
