"""Augmented photos: image and mask move together, everything drawn from seed, epoch and photo."""

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from graft.tasks.pixels import IGNORED

STRENGTHS = ("none", "light", "strong")
DEGREES, SHIFT, ZOOM = 10.0, 0.08, (0.85, 1.15)
JITTER = {"light": 0.2, "strong": 0.4}


def make_views(strength: str) -> v2.Transform | None:
    """Return the transform of a strength; None for none. Mirrored photos keep their masks, so flips are in each."""
    if strength == "none":
        return None
    amount = JITTER[strength]
    steps = [v2.RandomHorizontalFlip(), v2.ColorJitter(amount, amount, amount)]
    if strength == "strong":
        fill = {tv_tensors.Image: 124, tv_tensors.Mask: IGNORED}
        steps.append(v2.RandomAffine(DEGREES, (SHIFT, SHIFT), ZOOM, fill=fill))
    return v2.Compose(steps)


def view(
    pixels: torch.Tensor, mask: torch.Tensor, views: v2.Transform | None, seed: tuple[int, int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a view of a square, uint8 (C, S, S), and of its mask (S, S).

    Args:
        pixels: of the photo.
        mask: its class indices.
        views: from `make_views`.
        seed: of the run, the epoch and the photo.
    """
    if views is None:
        return pixels, mask
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(hash(seed) % 2**63)
        image, target = views(tv_tensors.Image(pixels), tv_tensors.Mask(mask))
    return image.as_subclass(torch.Tensor), target.as_subclass(torch.Tensor)
