"""Explanations of a prediction: Grad-CAM maps, and the training images with the most similar features."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from graft.core.row_blocks import ArrayRows, Rows
from graft.models.classifier import Classifier

SMALLEST_SIDE = 4
"""Smallest side of a map; a coarser one would be too coarse to explain anything."""


def attention_maps(
    classifier: Classifier, images: torch.Tensor, classes: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32] | None:
    """Return Grad-CAM maps, float32 (n, h, w) in 0 to 1: the evidence for the class of each image, by position.

    They use the last activation that has a side of at least `SMALLEST_SIDE` and whose positions affect the logits.

    Args:
        classifier: in eval mode.
        images: normalised float32 (n, C, S, S).
        classes: index of the class to explain (n,).

    Returns:
        None if there is no such activation.

    Selvaraju et al., Grad-CAM, ICCV 2017.
    """
    spec = classifier.backbone.spec
    start, boundary, below = _boundary(classifier, images)
    with torch.enable_grad():
        boundary = boundary.detach().clone().requires_grad_(True)
        if start is not None and start in classifier.head.spec.taps:
            # The head reads this activation: its pooled features have to be part of the graph.
            below = [*below[:-1], classifier.backbone.pooled(boundary)]
        seen: list[torch.Tensor] = [boundary]
        with _recording(classifier, seen, spec.channels_last):
            logits = classifier.from_boundary(boundary, start, below)
        selected = logits.gather(1, torch.from_numpy(classes)[:, None]).sum()
        gradients = torch.autograd.grad(selected, seen, allow_unused=True)
    for activation, gradient in zip(reversed(seen), reversed(gradients), strict=True):
        values = _grid(activation.detach(), spec.channels_last)
        gradient_grid = None if gradient is None else _grid(gradient, spec.channels_last)
        # After the last block of a transformer only the class token matters: the other tokens have no gradient there.
        if values is not None and gradient_grid is not None and bool(gradient_grid.any()):
            return _weighted(values, gradient_grid)
    return None


def _boundary(classifier: Classifier, images: torch.Tensor) -> tuple[str | None, torch.Tensor, list[torch.Tensor]]:
    """Return the group before the last spatial one, its activation, and the head's taps up to it.

    No gradient is needed below it.
    """
    backbone, taps = classifier.backbone, classifier.head.spec.taps
    passed: list[tuple[str | None, torch.Tensor, list[torch.Tensor]]] = [(None, images, [])]
    last_spatial = 0
    activation, below = images, list[torch.Tensor]()
    with torch.no_grad():
        for number, (name, group) in enumerate(zip(backbone.spec.groups, backbone.groups, strict=True), start=1):
            activation = group(activation)
            if name in taps:
                below = [*below, backbone.pooled(activation)]
            passed.append((name, activation, below))
            if _grid(activation, backbone.spec.channels_last) is not None:
                last_spatial = number
    return passed[max(0, last_spatial - 1)]


@contextmanager
def _recording(classifier: Classifier, seen: list[torch.Tensor], channels_last: bool) -> Iterator[None]:
    """Collect every spatial activation that a module of the backbone outputs."""

    def record(_module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.requires_grad and _grid(output, channels_last) is not None:
            seen.append(output)

    handles = [module.register_forward_hook(record) for module in classifier.backbone.groups.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _weighted(values: torch.Tensor, gradients: torch.Tensor) -> npt.NDArray[np.float32]:
    maps = (gradients.mean(dim=(2, 3), keepdim=True) * values).sum(dim=1).clamp(min=0)
    peaks = maps.flatten(1).max(dim=1).values[:, None, None]
    found: npt.NDArray[np.float32] = (maps / torch.where(peaks > 0, peaks, torch.ones_like(peaks))).numpy()
    return found


def overlay(picture: npt.NDArray[np.uint8], attention: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return a picture (H, W, 3) overlaid with its attention map (h, w): important parts bright, the rest dimmed."""
    height, width = picture.shape[:2]
    resized = nn.functional.interpolate(
        torch.from_numpy(attention)[None, None], size=(height, width), mode="bicubic", align_corners=False
    )
    weight = resized[0, 0].clamp(0, 1).numpy()[..., None]
    warm = np.array([255.0, 120.0, 20.0])
    dimmed = picture * (0.35 + 0.65 * weight)
    return np.asarray((dimmed * (1 - 0.35 * weight) + warm * 0.35 * weight).clip(0, 255), dtype=np.uint8)


def nearest(
    features: npt.NDArray[np.floating], candidates: npt.NDArray[np.floating] | Rows, count: int = 3
) -> npt.NDArray[np.int64]:
    """Return for each row of `features` (n, d) the most similar rows of `candidates` (m, d) by cosine, (n, count).

    Candidates are read in blocks.
    """
    rows = ArrayRows((candidates,)) if isinstance(candidates, np.ndarray) else candidates
    queries = _unit_length(features)
    found, similarity = np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0), queries.dtype)
    for where, block in rows.blocks():
        places = np.broadcast_to(np.arange(where.start, where.stop), (len(queries), len(block)))
        found = np.concatenate([found, places], axis=1)
        similarity = np.concatenate([similarity, queries @ _unit_length(block).T], axis=1)
        # The sort is stable: of equals the earlier one comes first.
        order = np.argsort(-similarity, axis=1, kind="stable")[:, :count]
        found, similarity = np.take_along_axis(found, order, axis=1), np.take_along_axis(similarity, order, axis=1)
    return found


def _grid(activation: torch.Tensor, channels_last: bool) -> torch.Tensor | None:
    """Return an activation as (B, C, h, w), or None if it has no positions."""
    if activation.ndim == 4:
        grid = activation.permute(0, 3, 1, 2) if channels_last else activation
        return grid if min(grid.shape[2:]) >= SMALLEST_SIDE else None
    if activation.ndim == 3:  # tokens of a transformer, possibly with a class token first
        tokens = activation.shape[1]
        side = int(tokens**0.5)
        extra = tokens - side * side
        if side >= SMALLEST_SIDE and extra <= 2:
            return activation[:, extra:].transpose(1, 2).reshape(len(activation), -1, side, side)
    return None


def _unit_length(features: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.where(length > 0, length, 1.0))
