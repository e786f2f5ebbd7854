"""An interval of 95 % holds the truth in 95 % of test sets, of images and of groups of images."""

from functools import partial

import numpy as np
from scipy.stats import norm

from graft.stats.clustered_auroc import clustered_auroc
from graft.stats.confidence_intervals import proportion, wilson
from graft.stats.metrics import METRICS
from graft.stats.paired_difference import paired_difference
from graft.stats.resampled_metrics import metric_intervals
from tests.truth.promise import Promise, around, at_least
from tests.truth.simulated import hits

DRAWS, FEW_DRAWS = 500, 200
_GROUPS, _FRAMES = 40, 5


def _wilson() -> float:
    right = np.random.default_rng(0).binomial(100, 0.9, DRAWS)
    return float(np.mean([low <= 0.9 <= high for _, low, high in (wilson(k, 100) for k in right)]))


def _grouped_proportion() -> float:
    generator, groups = np.random.default_rng(0), np.repeat(np.arange(_GROUPS), _FRAMES)
    found = [proportion(hits(_GROUPS, _FRAMES, 0.8, generator), groups) for _ in range(DRAWS)]
    return float(np.mean([low <= 0.8 <= high for _, low, high in found]))


def _bootstrap(groups: int, frames: int) -> float:
    """Return how often the interval of the log loss holds its mean; each group is easy or hard as a whole."""
    generator = np.random.default_rng(0)
    of_image = np.repeat(np.arange(groups), frames)
    targets = np.zeros(len(of_image), np.int64)
    targets[of_image % 2 == 1] = 1
    metric = {"log_loss": METRICS["log_loss"]}
    covered = []
    for seed in range(DRAWS):
        loss = generator.exponential(0.3, groups)[of_image] + generator.exponential(0.2, len(of_image))
        right = np.exp(-loss)
        probabilities = np.where(np.arange(2) == targets[:, None], right[:, None], 1 - right[:, None])
        _, low, high = metric_intervals(targets, probabilities, of_image, metrics=metric, count=500, seed=seed)[
            "log_loss"
        ]
        covered.append(low <= 0.5 <= high)
    return float(np.mean(covered))


def _paired_error() -> float:
    generator, groups = np.random.default_rng(0), np.repeat(np.arange(_GROUPS), _FRAMES)
    inside = []
    for _ in range(DRAWS):
        after = generator.normal(size=_GROUPS)[groups] + generator.normal(size=len(groups))
        gain, error = paired_difference(np.zeros(len(groups)), after, groups)
        inside.append(abs(gain) < error)
    return float(np.mean(inside))


def _auroc() -> float:
    generator, groups = np.random.default_rng(0), np.repeat(np.arange(30), 8)
    positive = groups < 10
    covered = []
    for _ in range(DRAWS):
        noise = generator.normal(size=30)[groups] + generator.normal(size=len(groups))
        _, low, high = clustered_auroc(positive + noise / np.sqrt(2), positive, groups)
        covered.append(low <= norm.cdf(1 / np.sqrt(2)) <= high)
    return float(np.mean(covered))


def _few(metric: str) -> float:
    """Return how often the interval of a metric on 16 images, often all right, holds its value on very many."""
    generator, metrics = np.random.default_rng(0), {metric: METRICS[metric]}

    def images(of_each_class: int) -> tuple[np.ndarray, np.ndarray]:
        targets = np.repeat([0, 1], of_each_class)
        positive = 1 / (1 + np.exp(-generator.normal(2 * (2 * targets - 1), 1.4)))
        return targets, np.stack([1 - positive, positive], axis=1)

    true = METRICS[metric](*images(50_000), None)[0]
    found = [metric_intervals(*images(8), metrics=metrics, count=100, seed=seed)[metric] for seed in range(FEW_DRAWS)]
    return float(np.mean([low <= true <= high for _, low, high in found]))


PROMISES = (
    Promise(
        "the interval of a proportion holds the truth: 95 %",
        f"Wilson, {DRAWS} sets of 100 images",
        *around(0.95, DRAWS),
        _wilson,
    ),
    Promise(
        "... of images in groups",
        f"{DRAWS} sets of {_GROUPS} videos of {_FRAMES} frames",
        *around(0.95, DRAWS, 0.02),
        _grouped_proportion,
    ),
    Promise(
        "the bootstrap interval of a metric holds the truth: 95 %",
        f"log loss, {DRAWS} sets of 200 images",
        *around(0.95, DRAWS),
        lambda: _bootstrap(200, 1),
    ),
    Promise(
        "... of images in groups",
        f"{DRAWS} sets of 80 videos of 5 frames",
        *around(0.95, DRAWS),
        lambda: _bootstrap(80, 5),
    ),
    *(
        Promise(
            f"the interval of the {name} of a few images, often all right, holds the truth: 95 % at least",
            f"{FEW_DRAWS} sets of 8 images of each class",
            *at_least(0.95, FEW_DRAWS),
            partial(_few, metric),
        )
        for metric, name in (("balanced_accuracy", "balanced accuracy"), ("macro_f1", "macro F1"), ("auroc", "AUROC"))
    ),
    Promise(
        "the interval of the AUROC of a two-sample test holds the truth: 95 %",
        f"{DRAWS} sets of 10 and 20 videos of 8 frames",
        *around(0.95, DRAWS, 0.02),
        _auroc,
    ),
    Promise(
        "a mean gain is within one standard error of the true one: 68 %",
        f"{DRAWS} sets of {_GROUPS} videos of {_FRAMES} frames",
        *around(0.6827, DRAWS),
        _paired_error,
    ),
)
