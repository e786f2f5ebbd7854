"""How good a model of objects is on photos it has not seen, and beside models that cannot see."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from graft.dense.backbone_choice import untrained_twin
from graft.dense.comparison import USED_PARAMS, beside, mean_score, rows_for_random_weights
from graft.dense.pixel_scores import Bin, Score
from graft.detectors.detector_bundle import DetectorBundle
from graft.detectors.fit import cached_answers, fit_heads
from graft.detectors.instance_scores import DetectorPoint, InstanceEvaluation, KindScores
from graft.detectors.photo_maps import PhotoMaps, write_photo_maps
from graft.detectors.training import Schedule, epochs_for
from graft.objects.average_precision import NAMES, Counts, Matches, class_scores, counts_at, match, scores
from graft.objects.instance import Instance
from graft.objects.object_dataset import ObjectDataset
from graft.objects.typical import typical_objects
from graft.params.evaluate import EvaluateParams
from graft.stats.confidence_intervals import UNDEFINED, Interval, percentile_interval, resamples, wilson
from graft.tasks.pixels import refuse_others

BINS = 10
RANDOM_PHOTOS = 30
"""Training photos, and test photos, of the comparison with random weights if `evaluate.random_init` is auto."""
SHARES = (4, 2)
MOST_RESAMPLES = 300
"""Resamples behind the interval of an average precision, each of which is computed anew."""
Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Answers = Sequence[tuple[Instance, ...]]


@dataclass(frozen=True)
class JudgedObjects:
    """The answers for the photos of one split, against the truth."""

    photos: pd.DataFrame
    """One row per photo: row, id, path, group, objects, found, missed, spurious, photo_f1."""
    answers: Answers
    masks: list[Matches]
    boxes: list[Matches]
    """Of every kind of object."""


def judge(dataset: ObjectDataset, rows: Rows, answers: Answers, score: float) -> JudgedObjects:
    """Compare answers with the truth.

    Args:
        dataset: the photos and objects.
        rows: the photos.
        answers: for each of them, whatever their score.
        score: answers of at least this score are counted as found or spurious.
    """
    truth = [dataset.objects(int(row)) for row in rows]
    classes = len(dataset.task.labels)
    masks, boxes = match(truth, answers, classes), match(truth, answers, classes, "box")
    counts = counts_at(masks, score)
    table = dataset.table.iloc[rows][["id", "path", "group"]].reset_index(drop=True)
    numbers = {"row": rows, "objects": counts.found + counts.missed, **counts._asdict(), "photo_f1": counts.f1}
    return JudgedObjects(table.assign(**numbers), answers, masks, boxes)


def predicted(bundle: DetectorBundle, dataset: ObjectDataset, rows: Rows, what: str) -> JudgedObjects:
    """Return what a model says of some photos, from their bytes on, compared with the truth."""
    answers = list(bundle.answers((dataset.photos[int(row)] for row in rows), what, len(rows)))
    return judge(dataset, rows, answers, bundle.spec.score)


def assess_objects(
    dataset: ObjectDataset, store: PhotoMaps, head: DetectorBundle, model: DetectorBundle, params: EvaluateParams
) -> tuple[InstanceEvaluation, JudgedObjects]:
    """Measure a model on the test photos, and beside baselines on the same ones.

    Raises:
        ParamsError: for a parameter that has no meaning for objects.
    """
    refuse_others("evaluate", params, USED_PARAMS, dataset.task.kind)
    train, val, test = dataset.rows("train"), dataset.rows("val"), dataset.rows("test")
    judged = predicted(model, dataset, test, "evaluate")
    on_val = predicted(model, dataset, val, "evaluate") if len(val) else None
    groups, own = dataset.groups[test], judged.photos["photo_f1"].to_numpy()

    nothing: Answers = [()] * len(test)
    same = typical_objects([dataset.objects(int(row)) for row in train], _sizes(dataset, test))
    rivals = {
        "no answer": _f1(dataset, test, nothing, 0.0),
        "the same objects everywhere": _f1(dataset, test, same, 0.0),
    }
    if model.spec.trained_groups:
        rivals["frozen features"] = predicted(head, dataset, test, "evaluate").photos["photo_f1"].to_numpy()
    if params.random_init:
        few = rows_for_random_weights(train, test, RANDOM_PHOTOS, params)
        rivals["random weights"] = _random_weights(dataset, model, *few, params.seed)
    baselines, gains = beside(own, rivals, groups, params)
    counts = counts_at(judged.masks, model.spec.score)
    evaluation = InstanceEvaluation(
        task=dataset.task,
        classes=dataset.task.labels,
        dataset_digest=dataset.spec.digest,
        confidence=params.confidence,
        photos={"train": len(train), "val": len(val), "test": len(test)},
        test=_scores(judged, groups, params),
        val=_scores(on_val, dataset.groups[val], params) if on_val else {},
        per_class=tuple(_per_kind(dataset, judged, model.spec.score, groups, params)),
        baselines=baselines,
        gains=gains,
        bins=tuple(score_bins(judged.masks)),
        score=model.spec.score,
        **{name: int(total.sum()) for name, total in counts._asdict().items()},
        learning=tuple(_learning(dataset, store, head, train, test, params)) if params.learning_curve else (),
    )
    return evaluation, judged


def precision_intervals(
    judged: JudgedObjects, groups: npt.NDArray[np.object_], params: EvaluateParams
) -> dict[str, Score]:
    """Return AP, AP50, AP75 and AR of masks and boxes, each with its bootstrap interval over groups of photos."""
    found = {}
    for shape, matches in (("mask", judged.masks), ("box", judged.boxes)):

        def values(weights: Floats | None, of: Sequence[Matches] = matches) -> Floats:
            return np.array(list(scores(of, weights).values()))

        for name, each in zip(NAMES, _intervals(values, groups, params), strict=True):
            found[f"{shape}_{name}"] = Score.of(each)
    return found


def score_bins(matches: Sequence[Matches]) -> Iterator[Bin]:
    """Yield, for answers of about one score, how many of them are right at an overlap of 0.5."""
    counted = [~one.ignored[0] for one in matches]
    score = np.concatenate([one.score[there] for one, there in zip(matches, counted, strict=True)])
    right = np.concatenate([one.right[0][there] for one, there in zip(matches, counted, strict=True)])
    place = np.minimum((score * BINS).astype(int), BINS - 1)
    for at in np.unique(place):
        there = place == at
        share = float(there.mean())
        yield Bin(confidence=float(score[there].mean()), accuracy=float(right[there].mean()), share=share)


def _intervals(
    values: Callable[[Floats | None], Floats], groups: npt.NDArray[np.object_], params: EvaluateParams
) -> Iterator[Interval]:
    """Yield the bootstrap interval of each of several statistics of the same resamples."""
    whole = values(None)
    count = min(params.bootstrap, MOST_RESAMPLES)
    draws = resamples(groups.astype(str), np.zeros(len(groups), np.int64), count, params.seed)
    found = np.array([values(weights) for chunk in draws for weights in chunk])
    for at, value in enumerate(whole):
        known = found[:, at][~np.isnan(found[:, at])] if len(found) else np.zeros(0)
        if np.isnan(value) or not len(known):
            yield UNDEFINED
        else:
            interval = percentile_interval(float(value), known, params.confidence)
            if value in (0.0, 1.0) and known.min() == known.max():
                # No resample differs from photos that are all alike: what can be said is that of a proportion.
                photos = len(np.unique(groups))
                interval = wilson(float(value) * photos, photos, params.confidence)
            yield Interval(interval.value, max(0.0, interval.low), min(1.0, interval.high))


def _scores(judged: JudgedObjects, groups: npt.NDArray[np.object_], params: EvaluateParams) -> dict[str, Score]:
    f1 = mean_score(judged.photos["photo_f1"].to_numpy(), groups, params)
    return {**precision_intervals(judged, groups, params), "photo_f1": f1}


def _per_kind(
    dataset: ObjectDataset,
    judged: JudgedObjects,
    score: float,
    groups: npt.NDArray[np.object_],
    params: EvaluateParams,
) -> Iterator[KindScores]:
    for label, (name, matches) in enumerate(zip(dataset.task.labels, judged.masks, strict=True)):

        def values(weights: Floats | None, of: Matches = matches) -> Floats:
            return np.array(class_scores(of, weights) or (np.nan,) * len(NAMES))

        ap, ap50, *_ = _intervals(values, groups, params)
        counts: Counts = counts_at([judged.masks[label]], score)
        yield KindScores(
            label=name,
            photos=int((matches.objects > 0).sum()),
            objects=int(matches.objects.sum()),
            ap=Score.of(ap),
            ap50=Score.of(ap50),
            **{part: int(total.sum()) for part, total in counts._asdict().items()},
        )


def _f1(dataset: ObjectDataset, rows: Rows, answers: Answers, score: float) -> Floats:
    truth = [dataset.objects(int(row)) for row in rows]
    return counts_at(match(truth, answers, len(dataset.task.labels)), score).f1


def _sizes(dataset: ObjectDataset, rows: Rows) -> list[tuple[int, int]]:
    return [(int(height), int(width)) for height, width in dataset.table[["height", "width"]].to_numpy()[rows]]


def _random_weights(dataset: ObjectDataset, model: DetectorBundle, train: Rows, test: Rows, seed: int) -> Floats:
    """Return F1 of test photos by heads that learnt on the same network with random weights."""
    untrained = untrained_twin(model.spec.backbone, seed)
    with tempfile.TemporaryDirectory(prefix="graft-random-") as name:
        store = write_photo_maps(Path(name), dataset, untrained, np.concatenate([train, test]))
        levels = range(len(store.spec.levels))
        schedule = Schedule(epochs_for(len(train)), seed, what="evaluate: random weights")
        heads, _ = fit_heads(store, store.objects, levels, train, schedule)
        answers = cached_answers(store, heads, levels, test)
    return _f1(dataset, test, answers, model.spec.score)


def _learning(
    dataset: ObjectDataset, store: PhotoMaps, head: DetectorBundle, train: Rows, test: Rows, params: EvaluateParams
) -> Iterator[DetectorPoint]:
    """Yield what heads learn from a quarter and a half of the training photos, and from all."""
    groups = dataset.groups[test]

    def point(photos: int, answers: Answers) -> DetectorPoint:
        judged = judge(dataset, test, answers, head.spec.score)
        return DetectorPoint(photos=photos, ap50=precision_intervals(judged, groups, params)["mask_ap50"])

    levels = [at for at, level in enumerate(store.spec.levels) if level.group in head.spec.levels]
    order = np.random.default_rng(params.seed).permutation(train)
    for part in SHARES:
        rows = order[: len(train) // part]
        if len(rows) >= 2:
            # as many epochs as all photos had: fewer photos take less time, and do not learn longer
            schedule = Schedule(head.spec.epochs, params.seed, what=f"evaluate: {len(rows)} photos")
            heads, _ = fit_heads(store, store.objects, levels, rows, schedule)
            yield point(len(rows), cached_answers(store, heads, levels, test))
    yield point(len(train), list(head.answers((dataset.photos[int(row)] for row in test), "evaluate", len(test))))
