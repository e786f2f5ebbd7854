"""The evaluation of every task of a model, and what only several tasks on the same images can show."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from graft.backbones.feature_store import FeatureStore
from graft.data.dataset import ImageDataset
from graft.evaluation.embedding_map import TILE, EmbeddingMap, embedding_map, rows_on_map
from graft.evaluation.error_gallery import make_gallery
from graft.evaluation.evaluate import evaluate_model
from graft.evaluation.gallery import Gallery, thumbnail
from graft.evaluation.operating_point import positive_index
from graft.evaluation.predictions import Predictions, predict_held_out
from graft.evaluation.random_init_baseline import UntrainedBackbone
from graft.evaluation.schema import Estimate, Evaluation, SharedErrors, Together
from graft.models.bundle import ModelBundle
from graft.params.evaluate import EvaluateParams
from graft.stats.confidence_intervals import proportion
from graft.tasks.task import Task


@dataclass(frozen=True)
class EvaluatedTask:
    """Everything that is known of one task of a model."""

    images: ImageDataset
    """The dataset with this task alone, with what the model fitted for its answers."""
    head: ModelBundle
    model: ModelBundle
    answers: Predictions
    found: Evaluation
    gallery: Gallery
    embedding: EmbeddingMap | None = None
    """Of the first task, unless explanations are left out."""


def evaluate_tasks(
    images: ImageDataset, store: FeatureStore, head: ModelBundle, model: ModelBundle, params: EvaluateParams
) -> list[EvaluatedTask]:
    """Measure every task on its test images.

    Raises:
        ParamsError: if `params.positive` is not a label of any task of two classes.
        DataError: if a task has no test image.
    """
    tasks, sections = images.tasks, _params(images.tasks, params)
    every = params.random_init is True
    untrained = UntrainedBackbone(images, model.spec.backbone, params.seed, every_image=every)
    found = []
    for number, (own_head, own_model) in enumerate(zip(head.by_task, model.by_task, strict=True)):
        own = images.of_task(own_model.task)
        features = store.of_task(tasks[number])
        answers = predict_held_out(own, features, own_head, own_model)
        others = [*tasks[:number], *tasks[number + 1 :]]
        one = evaluate_model(own, features, own_head, own_model, answers, sections[number], untrained, others)
        gallery = make_gallery(own, features, own_model, answers, one, explain=params.explain)
        embedding = None if number or not params.explain else _embedding(own, features, own_model, answers)
        found.append(EvaluatedTask(own, own_head, own_model, answers, one, gallery, embedding))
    if len(found) > 1:
        first = found[0]
        found[0] = replace(first, found=first.found.model_copy(update={"together": measure_together(found)}))
    return found


def _embedding(
    images: ImageDataset, store: FeatureStore, model: ModelBundle, answers: Predictions
) -> EmbeddingMap | None:
    """Return a map of the images, mistakes and images unlike training before others."""
    wrong = answers.rows[~images.task.correct(answers.model, answers.targets)]
    strange = answers.rows[answers.ood >= 1] if answers.ood is not None else wrong[:0]
    rows = rows_on_map(len(images), np.unique(np.concatenate([strange, wrong])))
    reader, spec = images.reader(), images.spec
    features = store.mapped(model.spec.head.taps, rows).read()
    return embedding_map(features, rows, lambda row: thumbnail(reader[row], TILE, spec.channels, spec.value_range))


def check_positive(tasks: Sequence[Task], params: EvaluateParams) -> None:
    """Check the positive class before anything is read or predicted.

    Raises:
        ParamsError: if `params.positive` is not a label of any task of two classes.
    """
    _params(tasks, params)


def _params(tasks: Sequence[Task], params: EvaluateParams) -> list[EvaluateParams]:
    """Return the section for each task."""
    if len(tasks) == 1 or not any(params.positive in task.labels for task in tasks):
        positive_index(params.positive, tasks[0])
    if len(tasks) == 1:
        return [params]
    sections = []
    for task in tasks:
        own: dict[str, Any] = {"positive": params.positive if params.positive in task.labels else None}
        sections.append(params.model_copy(update=own))
        positive_index(sections[-1].positive, task)
    return sections


def measure_together(tasks: Sequence[EvaluatedTask]) -> Together:
    """Return how often all answers are right at once, and how mistakes of two tasks fall together."""
    right = {one.found.task.name: _right(one) for one in tasks}
    groups = pd.concat([_groups(one) for one in tasks])
    groups = groups[~groups.index.duplicated()]
    both = pd.DataFrame(right).dropna()
    all_right = np.asarray(both.to_numpy(dtype=np.bool_).all(axis=1))
    names = tuple(right)
    return Together(
        tasks=names,
        images=len(both),
        all_right=Estimate.of(proportion(all_right, groups[both.index].to_numpy(), tasks[0].found.confidence)),
        shared_errors=tuple(_shared_errors(pd.DataFrame(right), names)),
    )


def _shared_errors(right: pd.DataFrame, names: Sequence[str]) -> Iterator[SharedErrors]:
    for first, second in combinations(names, 2):
        both = right[[first, second]].dropna().to_numpy(dtype=np.bool_)
        wrong = ~both
        counts = wrong.sum(axis=0)
        yield SharedErrors(
            first=first,
            second=second,
            images=len(both),
            only_first_wrong=int((wrong[:, 0] & both[:, 1]).sum()),
            only_second_wrong=int((both[:, 0] & wrong[:, 1]).sum()),
            both_wrong=int(wrong.all(axis=1).sum()),
            expected=float(counts[0] * counts[1] / max(1, len(both))),
        )


def _right(one: EvaluatedTask) -> pd.Series:
    """Return whether each test image's answer is right, by the row of the dataset."""
    test = one.answers.in_split("test")
    right = one.images.task.correct(one.answers.model[test], one.answers.targets[test])
    return pd.Series(right, index=one.answers.rows[test], dtype=object)


def _groups(one: EvaluatedTask) -> pd.Series:
    test = one.answers.in_split("test")
    return pd.Series(one.answers.groups[test], index=one.answers.rows[test])
