"""Views of an image: determined by (seed, view, image), plausible, mirrored only if asked."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graft.imaging.augmentation import Augmentation, augmentation, view_of
from graft.params.fine_tune import AugmentationRanges


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    ramp = torch.linspace(0, 255, 32)
    return torch.stack([ramp.expand(32, 32), ramp[:, None].expand(32, 32), torch.full((32, 32), 90.0)]).to(torch.uint8)


@given(seed=st.integers(0, 5), view=st.integers(0, 5), name=st.text(max_size=8))
def test_a_view_is_determined_by_seed_view_and_image(seed: int, view: int, name: str) -> None:
    image = torch.arange(3 * 16 * 16, dtype=torch.int64).remainder(256).reshape(3, 16, 16).to(torch.uint8)
    ranges = augmentation("light")
    assert ranges is not None
    torch.manual_seed(seed)  # the global generator must not matter
    first = view_of(image, ranges, seed, view, name)
    torch.manual_seed(seed + 1)
    assert torch.equal(first, view_of(image, ranges, seed, view, name))
    assert first.dtype == torch.uint8
    assert first.shape == image.shape


def test_views_differ(pixels: torch.Tensor) -> None:
    ranges = augmentation("light")
    assert ranges is not None
    views = {view_of(pixels, ranges, 0, view, name).numpy().tobytes() for view in range(4) for name in ("a", "b")}
    assert len(views) == 8


def test_a_light_view_is_still_the_same_picture(pixels: torch.Tensor) -> None:
    ranges = augmentation("light")
    assert ranges is not None
    for view in range(20):
        seen = view_of(pixels, ranges, 0, view, "image").float()
        assert (seen - pixels.float()).abs().mean() < 40
        assert torch.corrcoef(torch.stack([seen[0].flatten(), pixels[0].float().flatten()]))[0, 1] > 0.9


def test_nothing_is_mirrored_unless_asked(pixels: torch.Tensor) -> None:
    for strength in ("light", "strong"):
        ranges = augmentation(strength)
        assert ranges is not None
        rising = [view_of(pixels, ranges, 0, view, "image")[0].float() for view in range(30)]
        assert all(view[:, 24:].mean() > view[:, :8].mean() for view in rising)
    flipping = augmentation("none", flip=True)
    assert flipping is not None
    views = [view_of(pixels, flipping, 0, view, "image") for view in range(30)]
    mirrored = [view for view in views if torch.equal(view, pixels.flip(2))]
    same = [view for view in views if torch.equal(view, pixels)]
    assert mirrored
    assert same
    assert len(mirrored) + len(same) == 30


def test_without_augmentation_there_are_no_ranges() -> None:
    assert augmentation("none") is None


def test_custom_ranges() -> None:
    ranges = augmentation("custom", custom=AugmentationRanges(degrees=90, shift=0.0, zoom=0.0, light=0.0))
    assert ranges == Augmentation(degrees=90, shift=0.0, zoom=0.0, light=0.0, flip=False)
    assert augmentation("custom") == augmentation("custom", custom=AugmentationRanges())
