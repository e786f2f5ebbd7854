"""Training on cached boundary activations gives the same result, up to the rounding of float16."""

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from graft.backbones import activation_cache
from graft.backbones.activation_cache import BoundaryCache, speedup, worth_caching
from graft.backbones.backbone import Backbone, build_backbone

IMAGES, VIEWS, SIZE, BOUNDARY = 12, 2, 64, "blocks.4"


def _pixels(position: int, view: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(position)
    pixels = torch.randint(0, 256, (3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    return pixels.flip(2) if view else pixels


def _ids(count: int = IMAGES) -> list[str]:
    return [f"{position:064x}" for position in range(count)]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    backbone = build_backbone("tf_efficientnet_lite0", "none", image_size=SIZE)
    generator = torch.Generator().manual_seed(0)
    for child in backbone.modules():
        if isinstance(child, nn.BatchNorm2d):
            assert child.running_var is not None
            child.running_var.copy_(torch.rand(child.running_var.shape, generator=generator) + 0.5)
    return backbone


def _uncached(backbone: Backbone, positions: list[int], view: int) -> torch.Tensor:
    batch = backbone.spec.transform.normalise(torch.stack([_pixels(p, view) for p in positions]))
    with torch.no_grad():
        return backbone.prefix(batch, BOUNDARY)


@pytest.fixture
def cache(backbone: Backbone) -> BoundaryCache:
    return BoundaryCache.open(backbone, BOUNDARY, _pixels, _ids(), views=VIEWS, augmentation="flip")


def test_holds_the_activations_of_every_view(cache: BoundaryCache, backbone: Backbone) -> None:
    assert (len(cache), cache.views, cache.view(0).values.dtype) == (IMAGES, VIEWS, np.float16)
    positions = [7, 0, 11, 3]
    for view in range(VIEWS):
        expected = _uncached(backbone, positions, view)
        found = cache.batch(positions, view)
        assert found.dtype == torch.float32
        assert found.shape == expected.shape
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3 * float(expected.abs().max()))
    assert torch.equal(cache.batch([1], VIEWS), cache.batch([1], 0))  # views are taken in turn


def test_holds_the_pooled_features_below_too(cache: BoundaryCache, backbone: Backbone) -> None:
    assert cache.after == BOUNDARY
    groups = ["blocks.1", BOUNDARY]
    batch = backbone.spec.transform.normalise(torch.stack([_pixels(p, 1) for p in (4, 2)]))
    with torch.no_grad():
        taps = dict(zip(backbone.spec.groups, backbone.taps(batch), strict=True))
    for group, found in zip(groups, cache.taps([4, 2], 1, groups), strict=True):
        torch.testing.assert_close(found, taps[group], rtol=1e-3, atol=1e-4)


def test_training_with_and_without_it_is_the_same(cache: BoundaryCache, backbone: Backbone) -> None:
    def batches() -> Iterator[tuple[list[int], int]]:
        for epoch in range(3):
            order = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(epoch)).tolist()
            yield from ((order[start : start + 4], epoch % VIEWS) for start in range(0, IMAGES, 4))

    def trained(cached: bool) -> tuple[list[float], torch.Tensor]:
        torch.manual_seed(0)
        suffix = copy.deepcopy(backbone)
        head = nn.Linear(suffix.spec.widths[-1], 2)
        start = backbone.spec.index(BOUNDARY) + 1
        learned = [p for group in suffix.groups[start:] for p in group.parameters()] + list(head.parameters())
        optimiser = torch.optim.SGD(learned, lr=1e-3)  # larger ones make an untrained network chaotic
        losses = []
        for positions, view in batches():
            activation = cache.batch(positions, view) if cached else _uncached(backbone, positions, view)
            logits = head(suffix.pooled(suffix.suffix(activation, BOUNDARY)))
            loss = F.cross_entropy(logits, torch.tensor(positions) % 2)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        return losses, nn.utils.parameters_to_vector(learned).detach()

    (cached_losses, cached_weights), (losses, weights) = trained(True), trained(False)
    start = nn.utils.parameters_to_vector(
        [p for group in backbone.groups[backbone.spec.index(BOUNDARY) + 1 :] for p in group.parameters()]
    )
    assert len(start) < len(weights)
    np.testing.assert_allclose(cached_losses, losses, rtol=5e-3)
    assert (cached_weights - weights).norm() < 1e-3 * weights.norm()
    assert losses[-1] != losses[0]


def test_is_computed_once(cache: BoundaryCache, backbone: Backbone) -> None:
    cache.view(1)

    def never(position: int, view: int) -> torch.Tensor:
        raise AssertionError("computed again")

    again = BoundaryCache.open(backbone, BOUNDARY, never, _ids(), views=VIEWS, augmentation="flip")
    assert np.array_equal(again.view(1).values, cache.view(1).values)
    with pytest.raises(AssertionError, match="computed again"):
        again.view(0)  # not computed yet


@pytest.mark.parametrize("change", [{"ids": _ids(IMAGES - 1)}, {"augmentation": "other"}, {"group": "blocks.5"}])
def test_any_change_is_computed_again(cache: BoundaryCache, backbone: Backbone, change: dict[str, object]) -> None:
    calls = 0

    def counted(position: int, view: int) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return _pixels(position, view)

    asked = {"group": BOUNDARY, "ids": _ids(), "views": VIEWS, "augmentation": "flip", **change}
    cache.view(0)
    BoundaryCache.open(backbone, pixels=counted, **asked).view(0)  # type: ignore[arg-type]
    assert calls == len(asked["ids"])  # type: ignore[arg-type]


def test_what_is_trained_above_the_boundary_does_not_matter(cache: BoundaryCache, backbone: Backbone) -> None:
    other = copy.deepcopy(backbone)
    nn.init.zeros_(next(other.groups[-1].parameters()))
    found = BoundaryCache.open(other, BOUNDARY, _pixels, _ids(), views=VIEWS, augmentation="flip")
    assert found.folder == cache.folder


def test_too_large_for_float16_is_kept_in_float32(backbone: Backbone) -> None:
    large = copy.deepcopy(backbone.truncated("blocks.0"))
    large.groups[-1] = nn.Sequential(large.groups[-1], _Times(1e6))
    cache = BoundaryCache.open(large, "blocks.0", _pixels, _ids(3))
    values = cache.view(0).values
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    assert np.abs(values).max() > 65504


class _Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.register_buffer("factor", torch.tensor(factor))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


def test_without_a_cache_folder_it_is_temporary(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GRAFT_CACHE", "off")
    monkeypatch.setattr(activation_cache.tempfile, "tempdir", str(tmp_path))
    cache = BoundaryCache.open(backbone, BOUNDARY, _pixels, _ids(3))
    assert cache.batch([0, 2]).shape[0] == 2
    assert list(tmp_path.glob("graft-activations-*"))
    del cache
    assert not list(tmp_path.glob("graft-activations-*"))


def test_tokens_are_stored_unchanged() -> None:
    backbone = build_backbone("vit_tiny_patch16_224", "none")
    size = backbone.spec.transform.size
    group = backbone.spec.groups[1]
    cache = BoundaryCache.open(backbone, group, lambda p, v: torch.zeros(3, size, size, dtype=torch.uint8), _ids(1))
    with torch.inference_mode():
        zeros = backbone.spec.transform.normalise(torch.zeros(1, 3, size, size, dtype=torch.uint8))
        expected = backbone.prefix(zeros, group)
    assert cache.batch([0]).shape == expected.shape
    torch.testing.assert_close(cache.batch([0]), expected, rtol=1e-2, atol=1e-2)


def test_caching_is_worth_it_from_the_measured_depth_on() -> None:
    backbone = build_backbone("tf_efficientnet_lite0", "none")
    worth = [group for group in backbone.spec.groups if worth_caching(backbone, group, images=1000)]
    assert worth == ["blocks.3", "blocks.4", "blocks.5", "blocks.6", "neck"]
    gains = [speedup(backbone, group) for group in backbone.spec.groups]
    assert gains == sorted(gains)
    assert not worth_caching(backbone, "blocks.5", images=10**9)
