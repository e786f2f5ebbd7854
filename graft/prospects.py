"""What more labels would bring, and what the model costs: measured on the network and the cached features."""

from collections.abc import Callable

import numpy as np
import torch

from graft.backbone import empty_backbone
from graft.bundle import ModelBundle
from graft.efficiency import cost
from graft.evaluation import CostScore, LearningScore
from graft.features import FeatureStore
from graft.heads import family
from graft.learning import advice, learning_curve
from graft.scores import Floats, Targets

MOST_TRAINING_IMAGES = 5000


def learning_of(store: FeatureStore, head: ModelBundle, seed: int) -> LearningScore:
    """Return the learning curve of heads like this one on its features, measured on test."""
    train, test = store.indices("train")[:MOST_TRAINING_IMAGES], store.indices("test")
    taps, kind = head.spec.head.taps, family(head.spec.head.kind, head.start)
    features = np.concatenate([np.asarray(store.tap(tap)) for tap in taps], axis=1)
    widths = [store.spec.taps[tap] for tap in taps]
    targets = store.targets()

    def fit(part: Floats, labels: Targets) -> Callable[[Floats], Floats]:
        (fitted,) = kind.fit(part, labels, len(store.classes), [head.spec.l2], widths=widths)
        return fitted.logits

    groups = store.table["group"].to_numpy()[train]
    curve = learning_curve(features[train], targets[train], groups, features[test], targets[test], fit, seed=seed)
    points = [{name: float(value) for name, value in point._asdict().items()} for point in curve]
    return LearningScore(points=points, advice=advice(curve))


def costs_of(model: ModelBundle) -> dict[str, CostScore]:
    """Return what the model costs, and what the whole backbone does that it was cut from."""
    image = torch.zeros(1, *model.transform.shape)
    whole = empty_backbone(model.spec.backbone.model_copy(update={"groups": model.spec.source_groups})).eval()
    measured = {"model": cost(model.module(), image), "backbone": cost(whole, image)}
    return {name: CostScore.model_validate(found._asdict()) for name, found in measured.items()}
