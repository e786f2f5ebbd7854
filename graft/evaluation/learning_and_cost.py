"""The learning curve and the cost of the model: measured on cached features and on the network."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from graft.backbones.backbone import untrained_backbone
from graft.backbones.feature_store import FeatureStore
from graft.core.row_blocks import ArrayRows
from graft.evaluation.learning_curve import Fit, Learner, Predict, advice, learning_curve
from graft.evaluation.model_cost import cost
from graft.evaluation.schema import CostScore, LearningScore
from graft.heads.cross_validation import cross_validate, judged_rows, make_folds
from graft.heads.families import family
from graft.heads.linear_probe import logits_of
from graft.models.bundle import ModelBundle
from graft.models.inference import cached_logits
from graft.stats.metrics import Floats, Targets
from graft.stats.subsampling import evenly_spaced, sample
from graft.tasks.task import Task

MOST_IMAGES = 5000
"""Most training images of a learning curve, and most test images that it is measured on."""
MOST_CLASSES = 100
"""Most classes of a learning curve: dozens of heads are fitted for it, each in proportion to their number."""
FOLDS = 3
"""Folds that choose the penalty for each number of images."""


def measure_learning_curve(store: FeatureStore, head: ModelBundle, seed: int) -> LearningScore:
    """Return the learning curve of heads like this one on its features, measured on test; of much data, a sample.

    The penalty is chosen anew for each number of images: fewer of them need more of it.
    """
    task, targets, groups = store.task, store.targets(), store.table["group"].to_numpy(dtype=object)
    rows = {split: store.labelled(split) for split in ("train", "test")}
    note = ""
    if task.exclusive and task.outputs > MOST_CLASSES:
        kept = evenly_spaced(task.outputs, MOST_CLASSES)
        place = np.full(task.outputs, -1)
        place[kept] = np.arange(MOST_CLASSES)
        targets = np.where(targets < 0, -1, place[targets])
        rows = {split: found[targets[found] >= 0] for split, found in rows.items()}
        note = f"Between {MOST_CLASSES} of the {task.outputs:,} classes: "
        task = task.model_copy(update={"labels": tuple(task.labels[label] for label in kept)})
    strata = task.strata(targets)
    train, test = (
        found[sample(strata[found], groups[found], MOST_IMAGES, f"{seed} learning")] for found in rows.values()
    )
    taps = head.spec.head.taps
    widths = [store.spec.taps[tap] for tap in taps]
    curve = learning_curve(
        store.mapped(taps, train).read(),
        targets[train],
        groups[train],
        store.mapped(taps, test).read(),
        targets[test],
        _learner(head, task, widths, seed),
        task,
        seed=seed,
        whole=cached_logits(store, head, test) if task is store.task and len(train) == len(rows["train"]) else None,
    )
    points = [{name: float(value) for name, value in size.point._asdict().items()} for size in curve]
    return LearningScore(points=points, advice=note + advice(curve, groups[test], seed))


def _learner(head: ModelBundle, task: Task, widths: Sequence[int], seed: int) -> Learner:
    """Return how to fit heads like this one: of its kind, weighted as it is."""
    whole = task.outputs == head.task.outputs
    kind, weighted = family(head.spec.head.kind, head.start if whole else None), bool(head.spec.weighted)

    def choose(features: Floats, targets: Targets, groups: npt.NDArray[Any]) -> Fit:
        strata = task.strata(targets)
        folds = make_folds(strata, groups, FOLDS, seed)
        found = cross_validate(
            features,
            targets,
            task,
            folds,
            kind.penalties,
            task.label_weights(targets) if weighted and kind.weighs else None,
            widths,
            kind.fit,
            judged=judged_rows(strata, folds) if task.exclusive else None,
        )

        def fit(part: Floats, labels: Targets) -> Predict:
            fitted = kind.fit_at(
                found.penalty, part, labels, task, widths, weighted=weighted, prior_share=found.prior_share
            )
            return lambda tested: logits_of(fitted, ArrayRows((tested,)), task.outputs)

        return fit

    return choose


def measure_costs(model: ModelBundle) -> dict[str, CostScore]:
    """Return the cost of the model and of the complete backbone that it was cut from."""
    image = torch.zeros(1, *model.transform.shape)
    backbone = untrained_backbone(model.spec.backbone.model_copy(update={"groups": model.spec.source_groups})).eval()
    measured = {"model": cost(model.module(), image), "backbone": cost(backbone, image)}
    return {name: CostScore.model_validate(found._asdict()) for name, found in measured.items()}
