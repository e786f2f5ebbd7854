"""How good a model of masks is on photos it has not seen, at their own size, and beside models that cannot see."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy.stats import spearmanr

from graft.backbones.backbone import Backbone
from graft.decoders.answers import MaskAnswer, answer
from graft.decoders.decoder import Decoder
from graft.decoders.dense_maps import MapStore, compute_maps
from graft.decoders.mask_bundle import MaskBundle
from graft.decoders.mask_scores import ClassScores, LearningPoint, MaskEvaluation
from graft.decoders.training import DecoderSettings, epochs_for, fit_decoder, square_logits
from graft.dense.backbone_choice import untrained_twin
from graft.dense.comparison import USED_PARAMS, beside, mean_score, rows_for_random_weights
from graft.dense.levels import Level
from graft.dense.pixel_scores import Bin
from graft.imaging.letterbox import fitted
from graft.masks.dataset import MaskDataset
from graft.masks.mask_file import resized
from graft.masks.scores import boundary_f, object_mean, overlap
from graft.params.evaluate import EvaluateParams
from graft.tasks.pixels import IGNORED, refuse_others

BINS = 10
MEAN_SIDE = 64
RANDOM_PHOTOS = 60
"""Training photos, and test photos, of the comparison with random weights if `evaluate.random_init` is auto."""
SHARES = (8, 4, 2)
Rows = npt.NDArray[np.int64]
Masks = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Judged:
    """The answers for the photos of one split, against the truth."""

    photos: pd.DataFrame
    """One row per photo: row, id, path, group, mean_iou, mean_dice, boundary_f, pixel_accuracy, predicted_iou, and
    truth_share, the part of the photo that is object."""
    iou: npt.NDArray[np.float64]
    """Of every photo and class (n, k), NaN where neither mask has the class."""
    dice: npt.NDArray[np.float64]
    both: npt.NDArray[np.float64]
    union: npt.NDArray[np.float64]
    """Pixels of every photo and class (n, k)."""
    bins: npt.NDArray[np.float64]
    """Over pixels by confidence (BINS, 3): number, sum of confidence, number right."""


def truth_of(dataset: MaskDataset, row: int) -> Masks:
    """Return a photo's mask at the photo's own size."""
    height, width = dataset.table[["height", "width"]].iloc[row]
    return resized(dataset.mask(row), int(height), int(width))


def judge(dataset: MaskDataset, rows: Rows, answers: Iterator[tuple[MaskAnswer, torch.Tensor | None]]) -> Judged:
    """Compare answers with the truth.

    Args:
        dataset: the photos and masks.
        rows: the photos.
        answers: for each of them the answer, and the probabilities (k, h, w) of the photo's part of the square.
    """
    classes = len(dataset.task.labels)
    found, ious, dices, boths, unions = [], [], [], [], []
    bins = np.zeros((BINS, 3))
    for row, (got, probabilities) in zip(rows, answers, strict=True):
        truth = truth_of(dataset, int(row))
        counted = overlap(truth, got.mask, classes)
        ious.append(counted.iou)
        dices.append(counted.dice)
        boths.append(counted.both)
        unions.append(counted.truth + counted.answer - counted.both)
        if probabilities is not None:
            bins += _confidences(probabilities, truth)
        found.append(
            {
                "row": int(row),
                "mean_iou": object_mean(counted.iou),
                "mean_dice": object_mean(counted.dice),
                "boundary_f": boundary_f(truth, got.mask, classes),
                "pixel_accuracy": float(counted.both.sum() / max(1.0, counted.truth.sum())),
                "predicted_iou": got.predicted_iou,
                "truth_share": float(counted.truth[1:].sum() / max(1.0, counted.truth.sum())),
            }
        )
    table = pd.DataFrame(found, columns=["row", *_SCORES, "predicted_iou", "truth_share"])
    own = dataset.table.iloc[rows][["id", "path", "group"]].reset_index(drop=True)
    empty = np.zeros((0, classes))
    iou, dice, both, union = (np.array(part) if part else empty for part in (ious, dices, boths, unions))
    return Judged(pd.concat([own, table], axis=1), iou, dice, both, union, bins)


_SCORES = ("mean_iou", "mean_dice", "boundary_f", "pixel_accuracy")


def predicted(bundle: MaskBundle, dataset: MaskDataset, rows: Rows, what: str) -> Judged:
    """Return what a model says of some photos, from their bytes on, compared with the truth."""

    def answers() -> Iterator[tuple[MaskAnswer, torch.Tensor | None]]:
        size, temperature = bundle.transform.size, bundle.spec.temperature
        for logits, box in bundle.logits((dataset.photos[int(row)] for row in rows), what, len(rows)):
            side = logits.shape[-1]
            height, width = (max(1, round(part * side / size)) for part in (box.height, box.width))
            yield answer(logits, box, size, temperature), (logits[:, :height, :width] / temperature).softmax(0)

    return judge(dataset, rows, answers())


def assess_masks(
    dataset: MaskDataset, store: MapStore, head: MaskBundle, model: MaskBundle, params: EvaluateParams
) -> tuple[MaskEvaluation, Judged]:
    """Measure a model on the test photos, and beside baselines on the same ones.

    Raises:
        ParamsError: for a parameter that has no meaning for masks.
    """
    refuse_others("evaluate", params, USED_PARAMS, dataset.task.kind)
    train, val, test = dataset.rows("train"), dataset.rows("val"), dataset.rows("test")
    judged, on_val = predicted(model, dataset, test, "evaluate"), predicted(model, dataset, val, "evaluate")
    groups, groups_of_val = dataset.groups[test], dataset.groups[val]
    rivals = {
        "all background": _constant(dataset, test),
        "mean mask": _mean_mask(dataset, train, test),
    }
    if model.spec.trained_groups:
        rivals["frozen features"] = predicted(head, dataset, test, "evaluate").photos["mean_iou"].to_numpy()
    own = judged.photos["mean_iou"].to_numpy()
    if params.random_init:
        few = rows_for_random_weights(train, test, RANDOM_PHOTOS, params)
        rivals["random weights"] = _random_weights(dataset, store, model, *few, params.seed)
    baselines, gains = beside(own, rivals, groups, params)
    rank = spearmanr(judged.photos["predicted_iou"], own).statistic if len(own) > 2 and own.std() else np.nan
    order = np.argsort(-judged.photos["predicted_iou"].to_numpy(), kind="stable")
    kept = own[order[: max(1, round(0.9 * len(own)))]]
    evaluation = MaskEvaluation(
        task=dataset.task,
        classes=dataset.task.labels,
        dataset_digest=dataset.spec.digest,
        confidence=params.confidence,
        photos={"train": len(train), "val": len(val), "test": len(test)},
        test={name: mean_score(judged.photos[name].to_numpy(), groups, params) for name in _SCORES},
        val={name: mean_score(on_val.photos[name].to_numpy(), groups_of_val, params) for name in _SCORES},
        per_class=tuple(_per_class(dataset, judged, groups, params)),
        baselines=baselines,
        gains=gains,
        learning=tuple(_learning(dataset, store, head, train, test, params)) if params.learning_curve else (),
        bins=tuple(_bins(judged.bins)),
        predicted_iou_rank=None if np.isnan(rank) else float(rank),
        kept_iou=float(kept.mean()) if len(kept) else None,
    )
    return evaluation, judged


def _per_class(
    dataset: MaskDataset, judged: Judged, groups: npt.NDArray[np.object_], params: EvaluateParams
) -> Iterator[ClassScores]:
    for label, name in enumerate(dataset.task.labels):
        union, both = judged.union[:, label], judged.both[:, label]
        yield ClassScores(
            label=name,
            photos=int((~np.isnan(judged.iou[:, label])).sum()),
            iou=mean_score(judged.iou[:, label], groups, params),
            dice=mean_score(judged.dice[:, label], groups, params),
            pooled_iou=float(both.sum() / union.sum()) if union.sum() else None,
        )


def _constant(dataset: MaskDataset, test: Rows) -> npt.NDArray[np.float64]:
    """Return the mean IoU of every test photo by an answer of background everywhere."""
    truths = [truth_of(dataset, int(row)) for row in test]
    classes = len(dataset.task.labels)
    return np.array([object_mean(overlap(truth, np.zeros_like(truth), classes).iou) for truth in truths])


def _mean_mask(dataset: MaskDataset, train: Rows, test: Rows) -> npt.NDArray[np.float64]:
    """Return the mean IoU of every test photo by the likeliest class at each place of the training masks."""
    classes = len(dataset.task.labels)
    votes = np.zeros((classes, MEAN_SIDE, MEAN_SIDE))
    for row in train:
        mask = resized(dataset.mask(int(row)), MEAN_SIDE, MEAN_SIDE)
        for label in range(classes):
            votes[label] += mask == label
    mean = votes.argmax(axis=0).astype(np.uint8)
    truths = [truth_of(dataset, int(row)) for row in test]
    return np.array([object_mean(overlap(truth, resized(mean, *truth.shape), classes).iou) for truth in truths])


def _random_weights(
    dataset: MaskDataset, store: MapStore, model: MaskBundle, train: Rows, test: Rows, seed: int
) -> npt.NDArray[np.float64]:
    """Return the mean IoU of test photos by a decoder on the same network with random weights."""
    untrained = untrained_twin(model.spec.backbone, seed)
    levels = [level for level in store.spec.levels if level.group in model.spec.levels]
    rows = np.concatenate([train, test])
    replaced = _Recomputed(dataset, store, untrained, levels, rows)
    return _square_iou(dataset, replaced.store, range(len(levels)), replaced.fit(len(train), seed), test)


class _Recomputed:
    """The maps of some photos by another backbone, in place of the stored ones."""

    def __init__(
        self, dataset: MaskDataset, store: MapStore, backbone: Backbone, levels: list[Level], rows: Rows
    ) -> None:
        found = list(compute_maps(backbone, levels, (dataset.photos[int(row)] for row in rows), len(rows)))
        maps = []
        for at, level in enumerate(levels):
            whole = np.zeros((len(dataset), level.channels, level.side, level.side), np.float16)
            whole[rows] = np.nan_to_num(np.concatenate([part[at] for part in found]), posinf=6e4, neginf=-6e4)
            maps.append(whole)
        spec = store.spec.model_copy(update={"levels": tuple(levels)})
        self.store = MapStore(store.path, spec, store.table)
        self.store.__dict__["maps"] = maps
        self.rows = rows

    def fit(self, number: int, seed: int) -> Decoder:
        """Return a decoder that was fitted to the first photos."""
        levels = range(len(self.store.spec.levels))
        return fit_decoder(self.store, levels, self.rows[:number], DecoderSettings(epochs_for(number), "auto", seed))


def _learning(
    dataset: MaskDataset, store: MapStore, head: MaskBundle, train: Rows, test: Rows, params: EvaluateParams
) -> Iterator[LearningPoint]:
    """Yield what decoders learn from an eighth, a quarter and a half of the training photos, and from all."""
    levels = [at for at, level in enumerate(store.spec.levels) if level.group in head.spec.levels]
    order = np.random.default_rng(params.seed).permutation(train)
    for part in SHARES:
        rows = order[: len(train) // part]
        if len(rows) < 4:
            continue
        settings = DecoderSettings(epochs_for(len(rows)), head.spec.class_weight, params.seed)
        decoder = fit_decoder(store, levels, rows, settings, f"evaluate: {len(rows)} masks")
        yield _point(dataset, store, levels, decoder, len(rows), test, params)
    yield _point(dataset, store, levels, head.network.decoder, len(train), test, params)


def _point(
    dataset: MaskDataset,
    store: MapStore,
    levels: list[int],
    decoder: Decoder,
    photos: int,
    test: Rows,
    params: EvaluateParams,
) -> LearningPoint:
    found = _square_iou(dataset, store, levels, decoder, test)
    return LearningPoint(photos=photos, mean_iou=mean_score(found, dataset.groups[test], params))


def _square_iou(
    dataset: MaskDataset, store: MapStore, levels: range | list[int], decoder: Decoder, test: Rows
) -> npt.NDArray[np.float64]:
    """Return the mean IoU of test photos at their own size, by a decoder on stored maps."""
    size, classes = store.spec.transform.size, len(dataset.task.labels)
    sizes = dataset.table[["height", "width"]].to_numpy()
    found = []
    for row, logits in zip(test, square_logits(store, list(levels), decoder, test), strict=True):
        height, width = sizes[row]
        got = answer(logits, fitted(int(height), int(width), size), size)
        found.append(object_mean(overlap(truth_of(dataset, int(row)), got.mask, classes).iou))
    return np.array(found)


def _confidences(probabilities: torch.Tensor, truth: Masks) -> npt.NDArray[np.float64]:
    sure, chosen = probabilities.max(0)
    small = resized(truth, *chosen.shape)
    counted = small != IGNORED
    confidence, right = sure.numpy()[counted], (chosen.numpy() == small)[counted]
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    columns = [np.bincount(place, weights, BINS) for weights in (None, confidence, right.astype(float))]
    return np.stack(columns, axis=1)


def _bins(counted: npt.NDArray[np.float64]) -> Iterator[Bin]:
    total = counted[:, 0].sum()
    for number, confidence, right in counted:
        if number:
            yield Bin(confidence=confidence / number, accuracy=right / number, share=number / total)
