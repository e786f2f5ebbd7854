"""One epoch of a stage on cached boundary activations, compared with an epoch that runs the frozen part again."""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.data import dataset_of
from benchmarks.measure import Result, Spread, at_least, in_turn, ratio
from graft.backbones.activation_cache import BoundaryCache
from graft.backbones.backbone import Backbone, build_backbone
from graft.backbones.extraction import pixel_loader
from graft.data.dataset import ImageDataset

BATCH = 32
IMAGES = 192


def staged(work: Path, rounds: int) -> list[Result]:
    """EfficientNet-Lite0 above blocks.4 and blocks.5, on ants and bees."""
    dataset = dataset_of("hymenoptera", work / "hymenoptera")
    backbone = build_backbone("tf_efficientnet_lite0")
    results = []
    for group, goal in (("blocks.4", 1.8), ("blocks.5", 4.0)):
        calls, cache = epochs(dataset, backbone, group, IMAGES)
        seconds = in_turn(calls, rounds)
        size = cache.view(0).values[0].nbytes / 1024
        each = ", ".join(f"{name} {Spread.of(s).median / IMAGES * 1000:.1f}" for name, s in seconds.items())
        note = f"ms/image: {each}; {size:.0f} KiB/image"
        results.append(
            at_least(
                f"epoch above {group}: uncached / cached",
                ratio(seconds["uncached"], seconds["cached"]),
                goal,
                note=note,
            )
        )
        parity = _parity(dataset, backbone, group, cache)
        results.append(Result(f"loss above {group}: largest relative difference, cached to uncached", parity, ""))
    return results


def epochs(
    dataset: ImageDataset, backbone: Backbone, group: str, images: int
) -> tuple[dict[str, Callable[[], object]], BoundaryCache]:
    """Return functions that train one epoch without and with the cache, and the cache."""
    pixels = pixel_loader(backbone.spec.transform, dataset)
    rows = dataset.indices("train")[:images]
    ids = dataset.table["id"].iloc[rows].tolist()
    cache = BoundaryCache.open(backbone, group, lambda position, view: pixels(int(rows[position])), ids)
    decoded = torch.stack([pixels(int(row)) for row in rows])

    def uncached(positions: np.ndarray) -> torch.Tensor:
        with torch.no_grad():
            return backbone.prefix(backbone.spec.transform.normalise(decoded[positions]), group)

    return {
        "uncached": lambda: train(backbone, group, uncached, dataset.targets()[rows]),
        "cached": lambda: train(backbone, group, cache.batch, dataset.targets()[rows]),
    }, cache


def train(
    backbone: Backbone, group: str, inputs: Callable[[np.ndarray], torch.Tensor], targets: np.ndarray, epochs: int = 1
) -> list[float]:
    """Train a copy of the groups above `group` and a head; return the losses."""
    torch.manual_seed(0)
    model = copy.deepcopy(backbone).eval()
    above = model.groups[model.spec.index(group) + 1 :]
    head = nn.Linear(model.spec.widths[-1], int(targets.max()) + 1)
    optimiser = torch.optim.AdamW([*above.parameters(), *head.parameters()], lr=1e-4)
    losses = []
    for epoch in range(epochs):
        order = np.random.default_rng(epoch).permutation(len(targets))
        for start in range(0, len(order), BATCH):
            positions = order[start : start + BATCH]
            logits = head(model.pooled(model.suffix(inputs(positions), group)))
            loss = F.cross_entropy(logits, torch.from_numpy(targets[positions]))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    return losses


def _parity(dataset: ImageDataset, backbone: Backbone, group: str, cache: BoundaryCache) -> Spread:
    calls, _ = epochs(dataset, backbone, group, len(cache))
    pairs = zip(calls["uncached"](), calls["cached"](), strict=True)  # type: ignore[call-overload]
    return Spread.of([max(abs(a - b) / a for a, b in pairs)])
