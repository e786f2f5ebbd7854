"""Something to train that is trained in a moment."""

import numpy as np
import torch

from graft.backbones.backbone import build_backbone
from graft.finetune.stage_plan import Stage
from graft.finetune.trainer import Labelled, Settings
from graft.models.classifier import Classifier, Head, HeadSpec

SIZE = 32
STAGE = Stage(("features.2",), epochs=4, lr=0.02)
SETTINGS = Settings(
    batch_size=8,
    views=1,
    layer_decay=0.7,
    weight_decay=0.01,
    l2_sp=0.0,
    label_smoothing=0.0,
    patience=10,
    train_norms=True,
    class_weight=None,
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


def labelled(n: int, seed: int) -> Labelled:
    """So many of them, of two classes in turn."""
    images = Pixels(n, seed)
    return Labelled.all(images, images.targets)


def untrained() -> Classifier:
    """The first groups of a small network, and a head, at random."""
    torch.manual_seed(0)
    backbone = build_backbone("mobilenet_v3_small", "none", image_size=SIZE).truncated("features.2")
    return Classifier(backbone, Head(HeadSpec(taps=("features.2",), features=backbone.spec.widths[-1]), 2)).eval()
