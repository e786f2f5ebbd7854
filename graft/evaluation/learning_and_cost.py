"""The learning curve and the cost of the model: measured on cached features and on the network."""

from collections.abc import Callable

import torch

from graft.backbones.backbone import untrained_backbone
from graft.backbones.feature_store import FeatureStore
from graft.core.row_blocks import ArrayRows
from graft.evaluation.learning_curve import advice, learning_curve
from graft.evaluation.model_cost import cost
from graft.evaluation.schema import CostScore, LearningScore
from graft.heads.families import family
from graft.heads.linear_probe import logits_of
from graft.heads.protocols import TrainingSet
from graft.models.bundle import ModelBundle
from graft.models.inference import cached_logits
from graft.stats.metrics import Floats, Targets
from graft.stats.subsampling import sample

MOST_IMAGES = 5000
"""Most training images of a learning curve, and most test images that it is measured on."""


def measure_learning_curve(store: FeatureStore, head: ModelBundle, seed: int) -> LearningScore:
    """Return the learning curve of heads like this one on its features, measured on test; of many images, a sample."""
    task, targets, groups = store.task, store.targets(), store.table["group"].to_numpy(dtype=object)
    strata = task.strata(targets)
    train, test = (
        rows[sample(strata[rows], groups[rows], MOST_IMAGES, f"{seed} learning")]
        for rows in (store.labelled("train"), store.labelled("test"))
    )
    taps, kind = head.spec.head.taps, family(head.spec.head.kind, head.start)
    widths = [store.spec.taps[tap] for tap in taps]

    def fit(part: Floats, labels: Targets) -> Callable[[Floats], Floats]:
        weight = task.image_weights(labels, task.label_weights(labels)) if head.spec.weighted else None
        (fitted,) = kind.fit(TrainingSet(part, labels, task, weight, widths), [head.spec.l2])
        return lambda features: logits_of(fitted, ArrayRows((features,)), task.outputs)

    curve = learning_curve(
        store.mapped(taps, train).read(),
        targets[train],
        groups[train],
        store.mapped(taps, test).read(),
        targets[test],
        fit,
        task,
        seed=seed,
        whole=cached_logits(store, head, test) if len(train) == len(store.labelled("train")) else None,
    )
    points = [{name: float(value) for name, value in point._asdict().items()} for point in curve]
    return LearningScore(points=points, advice=advice(curve))


def measure_costs(model: ModelBundle) -> dict[str, CostScore]:
    """Return the cost of the model and of the complete backbone that it was cut from."""
    image = torch.zeros(1, *model.transform.shape)
    backbone = untrained_backbone(model.spec.backbone.model_copy(update={"groups": model.spec.source_groups})).eval()
    measured = {"model": cost(model.module(), image), "backbone": cost(backbone, image)}
    return {name: CostScore.model_validate(found._asdict()) for name, found in measured.items()}
