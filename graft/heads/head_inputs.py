"""What a head is chosen by and fitted to: features, folds and weights of the training images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from graft.backbones.feature_store import FeatureStore
from graft.heads.cross_validation import LARGE, CrossValidated, cross_validate, judged_rows, make_folds
from graft.heads.families import Family, family
from graft.heads.label_overlap import Overlap, find_overlap, starting_rows
from graft.heads.linear_probe import Linear
from graft.heads.protocols import Floats, Ints, Kind
from graft.heads.ridge import RidgeProbe, Spectrum, linear_spectrum, probe
from graft.params.train_head import TrainHeadParams
from graft.stats.paired_difference import PairedDifference, paired_difference
from graft.stats.subsampling import CHOICE_PER_CLASS, evenly_spaced, sample, selection_size
from graft.tasks.task import Bools, Targets, Task

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


def _judged(task: Task, targets: Targets, folds: Sequence[tuple[Ints, Ints]]) -> Bools:
    """Return which images can be judged; if labels do not exclude each other, all: each is learnt on its own."""
    return judged_rows(task.strata(targets), folds) if task.exclusive else np.ones(len(targets), dtype=np.bool_)
