"""Experiences made of features: images that a model learns one set after another."""

from collections.abc import Sequence
from functools import cache

import numpy as np

from graft.backbones.backbone import Backbone, build_backbone
from graft.continual.state import ContinualState, LabelledFeatures, first_state
from graft.continual.update import Update, update_model
from graft.heads.linear_probe import PENALTIES, Linear, fit_path
from graft.heads.protocols import TrainingSet
from graft.models.bundle import ModelBundle
from graft.models.bundle_spec import BundleSpec
from graft.models.classifier import Classifier, Head
from graft.params.update_model import UpdateModelParams
from graft.tasks.single_label import SingleLabel


@cache
def backbone() -> Backbone:
    return build_backbone("mobilenet_v3_small", "none", image_size=32).truncated("features.1")


def width() -> int:
    return backbone().spec.widths[-1]


def experience(classes: Sequence[int], per_class: int = 40, seed: int = 0, shift: float = 0.0) -> LabelledFeatures:
    """Images of these classes: of 10, 6 for training, 2 for validation, 2 for test. A class has one centre for ever."""
    centres = np.random.default_rng(7).normal(0, 1.2, (20, width()))
    generator = np.random.default_rng([seed, *classes])
    names = [f"class {label}" for label in classes for _ in range(per_class)]
    features = np.concatenate([centres[label] + generator.normal(0, 1, (per_class, width())) for label in classes])
    number = np.arange(len(names))
    split = np.array(["train", "train", "train", "val", "test"], dtype=object)[number % 5]
    ids = np.array([f"{seed}-{classes}-{at}" for at in number], dtype=object)
    return LabelledFeatures((features + shift).astype(np.float32), np.array(names), ids, ids, split)


def first_model(data: LabelledFeatures, *, exam: bool = True) -> tuple[ModelBundle, ContinualState]:
    """A model trained on a first experience, as train_head would: by logistic regression."""
    labels = tuple(sorted(set(data.names.tolist())))
    task, train = SingleLabel(labels=labels), data.part(~data.held_out)
    targets = np.searchsorted(np.array(labels), train.names).astype(np.int64)
    fitted: Linear = list(fit_path(TrainingSet(train.features, targets, task), PENALTIES[:3]))[-1]
    head, spec = Head.of(fitted, (backbone().spec.depth,)), backbone().spec
    made = BundleSpec(
        labels=labels, backbone=spec, source_groups=spec.groups, head=head.spec, dataset_digest="first", l2=1e-3
    )
    bundle = ModelBundle(made, Classifier(backbone(), head).eval())
    return bundle, first_state(bundle, data, "first", exam=exam)


def updated(bundle: ModelBundle, state: ContinualState, data: LabelledFeatures, **params: object) -> Update:
    return update_model(bundle, state, data, "next", UpdateModelParams.model_validate(params))


def learn(experiences: Sequence[LabelledFeatures], **params: object) -> tuple[ModelBundle, ContinualState]:
    """One experience after another."""
    bundle, state = first_model(experiences[0])
    for data in experiences[1:]:
        found = updated(bundle, state, data, **params)
        bundle, state = found.bundle, found.state
    return bundle, state
