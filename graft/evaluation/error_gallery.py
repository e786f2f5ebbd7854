"""The test images that the report shows, with Grad-CAM maps and their nearest training images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from graft.backbones.feature_store import FeatureStore
from graft.core.progress import progress
from graft.data.arrow_shards import SplitReader
from graft.data.dataset import ImageDataset
from graft.evaluation.gallery import Gallery, GalleryImage, Neighbour, data_uri, resize, surest_mistakes, thumbnail
from graft.evaluation.grad_cam import attention_maps, nearest, overlay
from graft.evaluation.predictions import Predictions
from graft.evaluation.schema import Evaluation
from graft.imaging.multichannel import as_rgb
from graft.models.bundle import ModelBundle
from graft.stats.metrics import predictions

MOST_MISTAKES, SAMPLES, NEIGHBOURS = 48, 8, 3
PER_PAIR = 3
MOST_MAPS = 24
"""The first so many mistakes get a Grad-CAM map."""
AT_ONCE = 8
"""Number of images in memory with their gradients at a time."""
NEIGHBOUR_SIDE, PAIR_SIDE = 84, 64


@dataclass(frozen=True)
class _Scene:
    """The data that the gallery is made from."""

    images: ImageDataset
    reader: SplitReader
    store: FeatureStore
    model: ModelBundle
    answers: Predictions


def make_gallery(
    images: ImageDataset,
    store: FeatureStore,
    model: ModelBundle,
    answers: Predictions,
    found: Evaluation,
    *,
    explain: bool,
) -> Gallery:
    """Return the most confident mistakes, a few random test images and examples of the most confused pairs.

    Args:
        images: the dataset.
        store: features of all its images, for nearest neighbours.
        model: for Grad-CAM maps.
        answers: the model's predictions.
        found: has the most confused pairs.
        explain: whether to compute Grad-CAM maps, of the first mistakes and the random images; each takes about three
            forward passes.
    """
    scene = _Scene(images, images.reader(), store, model, answers)
    test = np.flatnonzero(answers.in_split("test"))
    right = images.task.correct(answers.model[test], answers.targets[test])
    wrong = test[surest_mistakes(right, images.task.answers(answers.model[test]).confidence, MOST_MISTAKES)]
    drawn = np.random.default_rng(0).permutation(test)[:SAMPLES]
    shown = list(_shown(scene, [int(row) for row in (*wrong, *drawn)], _mapped(len(wrong), len(drawn), explain)))
    return Gallery(shown[: len(wrong)], shown[len(wrong) :], _confused(scene, found, test))


def _mapped(wrong: int, drawn: int, explain: bool) -> list[int]:
    """Return the positions, among the mistakes and the images drawn at random, that get a map."""
    return [*range(min(wrong, MOST_MAPS)), *range(wrong, wrong + drawn)] if explain else []


def _shown(scene: _Scene, rows: Sequence[int], mapped: Sequence[int]) -> Iterator[GalleryImage]:
    answers, task, channels = scene.answers, scene.images.task, scene.images.spec.channels
    best, found = predictions(answers.model), task.answers(answers.model)
    texts = task.texts(found.chosen, answers.model)
    neighbours = _neighbours(scene, rows)
    explained = [rows[place] for place in mapped]
    maps = dict(zip(explained, _attention(scene, explained, best[explained]), strict=True))
    for row, near in zip(rows, neighbours, strict=True):
        image = int(answers.rows[row])
        yield GalleryImage(
            path=str(scene.images.table["path"].iloc[image]),
            label=task.names(answers.targets[row : row + 1])[0],
            predicted=texts[row],
            probability=float(found.confidence[row]),
            picture=data_uri(thumbnail(scene.reader[image], channels=channels, values=scene.images.spec.value_range)),
            attention=maps.get(row),
            nearest=near,
        )


def _attention(scene: _Scene, rows: Sequence[int], classes: npt.NDArray[np.int64]) -> list[str | None]:
    transform = scene.model.transform
    found: list[str | None] = []
    starts = range(0, len(rows), AT_ONCE)
    for start in progress(starts, "evaluate: Grad-CAM", unit="batches"):
        part = rows[start : start + AT_ONCE]
        pixels = torch.stack([transform.pixels(scene.reader[int(scene.answers.rows[row])]) for row in part])
        maps = attention_maps(scene.model.classifier, transform.normalise(pixels), classes[start : start + AT_ONCE])
        if maps is None:
            return [None] * len(rows)
        for one, looked in zip(pixels, maps, strict=True):
            found.append(data_uri(overlay(resize(as_rgb(one.permute(1, 2, 0).numpy())), looked)))
    return found


def _neighbours(scene: _Scene, rows: Sequence[int]) -> list[list[Neighbour]]:
    """Return the nearest training images by the features of the frozen backbone, at most one per group."""
    if not rows:
        return []
    train = scene.store.labelled("train")
    taps, images = scene.model.spec.head.taps, scene.answers.rows[list(rows)]
    order = nearest(scene.store.mapped(taps, images).read(), scene.store.mapped(taps, train), NEIGHBOURS)
    table, channels, values = scene.images.table, scene.images.spec.channels, scene.images.spec.value_range
    labels = scene.images.task.names(scene.images.targets()[train])
    return [
        [
            Neighbour(
                path=str(table["path"].iloc[train[place]]),
                label=labels[place],
                picture=data_uri(thumbnail(scene.reader[int(train[place])], NEIGHBOUR_SIDE, channels, values)),
            )
            for place in places
        ]
        for places in order
    ]


def _confused(scene: _Scene, found: Evaluation, test: npt.NDArray[np.int64]) -> dict[tuple[str, str], list[str]]:
    if len(found.classes) < 3 or not found.task.exclusive:
        return {}
    best, names, spec = predictions(scene.answers.model), found.classes, scene.images.spec
    pairs = {}
    for pair in found.most_confused:
        label, predicted = names.index(pair.label), names.index(pair.predicted)
        rows = test[(scene.answers.targets[test] == label) & (best[test] == predicted)][:PER_PAIR]
        pairs[pair.label, pair.predicted] = [
            data_uri(thumbnail(scene.reader[int(scene.answers.rows[row])], PAIR_SIDE, spec.channels, spec.value_range))
            for row in rows
        ]
    return pairs
