"""A packed model that is made in a second: a small untrained network of three classes."""

import io
from pathlib import Path

import numpy as np
import torch
from torch import nn

from graft.heads.out_of_fold import OUT_OF_FOLD_FILE
from graft.imaging.transform import Transform
from graft.models.export import PixelNetwork
from graft.serving.packaging import pack
from graft.serving.server import ServingSpec
from graft.stats.abstention import fit_abstention
from tests.support.pictures import picture


class Network(nn.Module):
    """Returns logits and features of normalised pixels, as a classifier does."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.body(x)
        return self.head(features), features


def pack_untrained(folder: Path) -> None:
    """Pack it as `model` in this folder, as the pipeline does."""
    torch.manual_seed(0)
    bundle = folder / "source"
    bundle.mkdir()
    (bundle / "bundle.json").write_text("{}")
    (bundle / OUT_OF_FOLD_FILE).write_bytes(b"as in the folder of a head")
    generator = np.random.default_rng(0)
    features, targets = generator.normal(size=(60, 8)), np.arange(60) % 3
    scores = generator.dirichlet(np.ones(3), 60)
    trust = fit_abstention(features, targets, features, scores, targets)
    assert trust is not None
    trust.save(bundle)
    content = io.BytesIO()
    picture(0, 0).save(content, "PNG")
    spec = ServingSpec(labels=("ant", "bee", "cat"), transform=Transform(size=16), temperature=1.5)
    pack(PixelNetwork(Network(), spec.transform).eval(), spec, bundle, folder / "model", content.getvalue())
