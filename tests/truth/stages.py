"""A stage that brings nothing is kept in one draw of twenty at most, and one that gains enough to be seen is kept."""

import numpy as np

from graft.finetune.stage_verdict import HeldOut, held_out_verdict
from graft.finetune.wise_ft import best_of
from tests.support.tasks import of_classes
from tests.truth.promise import Promise, at_least, at_most
from tests.truth.simulated import Floats

DRAWS = 200
_TASK = of_classes(3)


def _before_and_after(images: HeldOut, better: float, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """Return logits (n, 3) before and after a stage that moves each image's noise, and the truth by `better`.

    The noise is as large after the stage as before, and images of one group share it: at `better` = 0 the stage is
    another model, but not a better one.
    """
    _, group = np.unique(images.groups, return_inverse=True)
    own, other = generator.normal(size=(2, group.max() + 1, 3))[:, group]
    right = np.eye(3)[images.targets]
    return 2 * right + own, (2 + better) * right + 0.8 * own + 0.6 * other


def _kept(images: int, per_group: int, better: float) -> float:
    """Return how often such a stage is kept, judged by so many images."""
    generator = np.random.default_rng(0)
    groups = np.array([f"g{number // per_group}" for number in range(images)], dtype=object)
    held_out = HeldOut(_TASK, np.arange(images) % 3, groups)
    kept = []
    for _ in range(DRAWS):
        before, after = (each.astype(np.float32) for each in _before_and_after(held_out, better, generator))
        found = held_out.compare(before, after)
        kept.append(held_out_verdict(found, found, "validation", requested=False).kept)
    return float(np.mean(kept))


def _kept_at_best_share(images: int, better: float) -> float:
    """Return how often a stage is kept at the best of four shares of its way, each another model but a better one only
    by that share of `better`."""
    generator = np.random.default_rng(0)
    names = np.array([f"g{number}" for number in range(images)], dtype=object)
    held_out = HeldOut(_TASK, np.arange(images) % 3, names)
    right = np.eye(3)[held_out.targets]
    kept = []
    for _ in range(DRAWS):
        own, other = generator.normal(size=(2, images, 3))
        shares = [
            ((2 + better * share) * right + np.cos(angle) * own + np.sin(angle) * other).astype(np.float32)
            for share, angle in ((1.0, 0.64), (0.25, 0.16), (0.5, 0.32), (0.75, 0.48))
        ]
        before = (2 * right + own).astype(np.float32)
        best, choices = best_of(held_out, before, shares)
        found = held_out.compare(before, shares[best])
        kept.append(held_out_verdict(found, found, "validation", requested=False, tried=choices).kept)
    return float(np.mean(kept))


PROMISES = (
    Promise(
        "a stage that brings nothing is kept: 5 % at most",
        f"{DRAWS} stages, 200 held-out images",
        *at_most(0.05, DRAWS),
        lambda: _kept(200, 1, 0.0),
    ),
    Promise(
        "... of images in groups",
        f"{DRAWS} stages, 60 videos of 4",
        *at_most(0.05, DRAWS),
        lambda: _kept(240, 4, 0.0),
    ),
    Promise(
        "... at the best share of its way (WiSE-FT)",
        f"{DRAWS} stages, 200 held-out images, 4 shares",
        *at_most(0.05, DRAWS),
        lambda: _kept_at_best_share(200, 0.0),
    ),
    Promise(
        "a stage that truly gains 2.5 standard errors is kept: 80 %",
        f"{DRAWS} stages, 200 held-out images",
        *at_least(0.8, DRAWS),
        lambda: _kept(200, 1, 0.245),
    ),
    Promise(
        "a stage that truly gains two standard errors of the validation images is kept by the folds: 80 %",
        f"{DRAWS} stages, 200 validation images, 800 in folds",
        0.8,
        1.0,
        lambda: _kept(800, 1, 0.19),
    ),
)
