"""Something to train that is trained in a moment."""

from dataclasses import replace

import numpy as np
import torch

from graft.backbones.backbone import build_backbone
from graft.finetune.cross_fitting import Fold
from graft.models.classifier import Classifier, Head, HeadSpec
from graft.training.labelled_images import LabelledImages
from graft.training.settings import TrainingSettings
from graft.training.stage import Stage
from tests.support.tasks import of_classes

TASK = of_classes(2)
SIZE = 32
STAGE = Stage(("features.2",), epochs=4, lr=0.02)
SETTINGS = TrainingSettings(
    batch_size=8,
    views=1,
    layer_decay=0.7,
    weight_decay=0.01,
    l2_sp=0.0,
    label_smoothing=0.0,
    train_norms=True,
    label_weights=None,
    seed=0,
)


class Pixels:
    """Images of two classes that colour tells apart."""

    after = None

    def __init__(self, n: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.targets = np.arange(n) % 2
        self.x = torch.randn(n, 3, SIZE, SIZE, generator=generator)
        self.x[:, 0] += torch.from_numpy(2.0 * self.targets - 1.0)[:, None, None]

    def batch(self, positions: np.ndarray, view: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The images themselves, whatever the view."""
        return self.x[torch.from_numpy(positions)], []


def labelled(n: int, seed: int) -> LabelledImages:
    """So many of them, of two classes in turn."""
    images = Pixels(n, seed)
    return LabelledImages.all(images, TASK, images.targets)


def untrained() -> Classifier:
    """The first groups of a small network, and a head, at random."""
    torch.manual_seed(0)
    backbone = build_backbone("mobilenet_v3_small", "none", image_size=SIZE).truncated("features.2")
    return Classifier(backbone, Head(HeadSpec(taps=("features.2",), features=backbone.spec.widths[-1]), 2)).eval()


def three_folds(start: Classifier, images: LabelledImages) -> list[Fold]:
    """Every third image held out in turn, all folds from the same start."""
    rows = np.arange(len(images))
    return [Fold(start, images.subset(rows[rows % 3 != k]), images.subset(rows[rows % 3 == k])) for k in range(3)]


def misleading(folds: list[Fold]) -> list[Fold]:
    """The same folds, but whatever is learnt is wrong on what is held out."""
    held_out = [fold.held_out for fold in folds]
    wrong = [replace(images, targets=1 - images.targets) for images in held_out]
    return [Fold(fold.start, fold.train, images) for fold, images in zip(folds, wrong, strict=True)]


def same_weights(a: Classifier, b: Classifier) -> bool:
    """Whether two classifiers are equal bit by bit."""
    first, second = a.state_dict(), b.state_dict()
    return all(torch.equal(first[name], second[name]) for name in first)
