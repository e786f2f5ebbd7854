"""python -m benchmarks.labelling: accuracy after 100 more labels, chosen in several ways, into docs/labelling.md.

Each draw splits the images anew into some with labels, a pool, and test images. A head is fitted as `train_head` does,
once to the labelled images, and once more with the 100 of the pool that a way chooses. Features take a minute; they are
kept in `outputs/labelling`.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import t as student
from sklearn.cluster import KMeans

from benchmarks.adaptation.domains import BACKBONE, features, png
from benchmarks.data import ROOT, folder_of
from graft.backbones.backbone import build_backbone
from graft.core.row_blocks import Array32, Indices
from graft.demo.demo_digits import _digits
from graft.heads.cross_validation import cross_validate, make_folds
from graft.heads.linear_probe import PENALTIES, Linear, fit_path
from graft.heads.protocols import Floats, TrainingSet
from graft.labelling.choice import choose
from graft.labelling.kept_features import LIMIT
from graft.labelling.pool import Pool
from graft.tasks.single_label import SingleLabel

PAGE, CACHE = ROOT / "docs" / "labelling.md", ROOT / "outputs" / "labelling"
BLOCK = re.compile(r"(?<=<!-- measured -->\n).*?(?=<!-- end -->)", re.DOTALL)
DRAWS, MORE = 10, 100
NEIGHBOURS, MOST_CLUSTERS = 20, 500


class Task(NamedTuple):
    """Features and classes of a set of images."""

    name: str
    features: Array32
    targets: Indices
    tests: int
    start: tuple[int, int]
    """How many labels there are for each class at the start: few, and more."""


class Draw(NamedTuple):
    """What a way of choosing may look at."""

    pool: Pool
    probabilities: Floats
    directions: Array32
    """Of the pool's features."""
    known: Array32
    """Of the labelled images' features."""
    seed: int


Way = Callable[[Draw], Indices]


# --- ways to choose


def _ours(draw: Draw) -> Indices:
    found = choose(draw.pool, MORE, labelled=len(draw.known), seed=draw.seed)
    return np.array([one.row for one in found.next])


def _nothing(draw: Draw) -> Indices:
    return np.zeros(0, np.int64)


def _random(draw: Draw) -> Indices:
    return np.random.default_rng(draw.seed).permutation(len(draw.pool))[:MORE]


def _margin(draw: Draw) -> Indices:
    return np.argsort(draw.pool.margin, kind="stable")[:MORE]


def _entropy(draw: Draw) -> Indices:
    values = draw.probabilities
    return np.argsort((values * np.log(np.maximum(values, 1e-12))).sum(axis=1), kind="stable")[:MORE]


def _typical(draw: Draw) -> Indices:
    """TypiClust (Hacohen et al. 2022): the most typical image of each of the largest clusters without a label."""
    both = np.concatenate([draw.known, draw.directions])
    count = min(len(draw.known) + MORE, MOST_CLUSTERS)
    cluster = KMeans(count, n_init=1, random_state=draw.seed).fit(both).labels_
    apart = np.maximum(2 - 2 * both @ both.T, 0)
    np.fill_diagonal(apart, np.inf)
    atypical = np.sqrt(np.partition(apart, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]).mean(axis=1)[len(draw.known) :]
    covered, sizes = np.bincount(cluster[: len(draw.known)], minlength=count), np.bincount(cluster, minlength=count)
    mine, left = cluster[len(draw.known) :], np.ones(len(draw.pool), np.bool_)
    found = []
    for _ in range(MORE):
        number = min(np.unique(mine[left]), key=lambda one: (covered[one], -sizes[one]))
        members = np.flatnonzero(left & (mine == number))
        found.append(members[atypical[members].argmin()])
        left[found[-1]], covered[number] = False, covered[number] + 1
    return np.array(found)


def _gradients(draw: Draw) -> Indices:
    """BADGE (Ash et al. 2020): k-means++ on the gradients of the last layer."""
    generator, values, x = np.random.default_rng(draw.seed), draw.probabilities.copy(), draw.directions
    values[np.arange(len(values)), values.argmax(axis=1)] -= 1
    length = (values**2).sum(axis=1) * (x**2).sum(axis=1)
    found, apart = [int(length.argmax())], np.full(len(x), np.inf)
    while len(found) < MORE:
        last = found[-1]
        apart = np.minimum(apart, length + length[last] - 2 * (values @ values[last]) * (x @ x[last]))
        apart = np.maximum(apart, 0)
        apart[found] = 0
        found.append(int(generator.choice(len(x), p=apart / apart.sum())))
    return np.array(found)


def _coverage(draw: Draw) -> Indices:
    """Core-set (Sener and Savarese 2018): always the image farthest from all that are labelled."""
    nearest = (2 - 2 * draw.directions @ draw.known.T).min(axis=1)
    found = []
    for _ in range(MORE):
        found.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, 2 - 2 * draw.directions @ draw.directions[found[-1]])
    return np.array(found)


WAYS: Mapping[str, Way] = {
    "**`to_label.csv`**: uncertain and diverse": _ours,
    "at random": _random,
    "smallest margin": _margin,
    "largest entropy": _entropy,
    "TypiClust": _typical,
    "BADGE": _gradients,
    "core-set": _coverage,
}


# --- images


def flowers() -> Task:
    """The 525 photos of flower_photos_mini: 5 classes."""
    folder = folder_of("flower_photos_mini")
    classes = sorted(path.name for path in (folder / "train").iterdir())
    files = [
        (file.read_bytes(), label)
        for part in ("train", "val")
        for label, name in enumerate(classes)
        for file in sorted((folder / part / name).iterdir())
    ]
    features, targets = _cached("flowers", files, "neck", None)
    return Task("flowers", features, targets, 175, (2, 10))


def digits() -> Task:
    """The 1,500 digits of the demo: 10 classes."""
    files = [(png(pixels), int(path.split("/")[1])) for path, pixels in _digits()]
    features, targets = _cached("digits", files, "blocks.4", 96)
    return Task("digits", features, targets, 500, (2, 10))


def _cached(name: str, files: list[tuple[bytes, int]], tap: str, side: int | None) -> tuple[Array32, Indices]:
    file = CACHE / f"{name}.npz"
    if not file.is_file():
        backbone = build_backbone(BACKBONE, image_size=side).truncated(tap)
        pixels = torch.stack([backbone.spec.transform.pixels(content) for content, _ in files])
        CACHE.mkdir(parents=True, exist_ok=True)
        np.savez(file, features=features(backbone, pixels), targets=np.array([label for _, label in files]))
    read = np.load(file)
    return read["features"], read["targets"]


# --- measurement


class Fitted(NamedTuple):
    """A linear head with its temperature."""

    head: Linear
    task: SingleLabel
    temperature: float

    def probabilities(self, features: Array32) -> Floats:
        """Return its answers, (n, C)."""
        return self.task.probabilities(self.head.logits(features), self.temperature)

    def accuracy(self, features: Array32, targets: Indices) -> float:
        """Return the share of right answers."""
        return float((self.head.logits(features).argmax(axis=1) == targets).mean())


def _fitted(features: Array32, targets: Indices, task: SingleLabel) -> Fitted:
    """Return a linear head with a cross-validated penalty and temperature, as `train_head` fits it."""
    folds = make_folds(targets, np.arange(len(targets)).astype(str), 5, 0)
    found = cross_validate(features, targets, task, folds)
    penalties = [penalty for penalty in PENALTIES if penalty >= found.penalty]
    *_, head = fit_path(TrainingSet(features, targets, task), penalties)
    return Fitted(head, task, found.fit_temperature())


def accuracies(images: Task, per_class: int) -> dict[str, npt.NDArray[np.float64]]:
    """Return the accuracy of every draw before, and after 100 more labels chosen in each way."""
    classes = int(images.targets.max()) + 1
    task = SingleLabel(labels=tuple(f"c{label}" for label in range(classes)))
    found: dict[str, list[float]] = {"before": [], **{name: [] for name in WAYS}}
    for seed in range(DRAWS):
        order = np.random.default_rng(seed).permutation(len(images.targets))
        tests, rest = order[: images.tests], order[images.tests :]
        known = np.concatenate([rest[images.targets[rest] == label][:per_class] for label in range(classes)])
        left = np.setdiff1d(rest, known)
        start = _fitted(images.features[known], images.targets[known], task)
        draw = _draw(images.features, known, left, start, seed)
        for name, way in {"before": _nothing, **WAYS}.items():
            learnt = np.concatenate([known, left[way(draw)]])
            fitted = _fitted(images.features[learnt], images.targets[learnt], task)
            found[name].append(fitted.accuracy(images.features[tests], images.targets[tests]))
    return {name: np.array(values) for name, values in found.items()}


def _draw(features: Array32, known: Indices, left: Indices, start: Fitted, seed: int) -> Draw:
    scaled = (features - start.head.mean) / start.head.scale  # as `predict` keeps them
    standardised = np.clip(scaled, -LIMIT, LIMIT).astype(np.float16)
    values = start.probabilities(features[left])
    order = np.argsort(-values, axis=1, kind="stable")[:, :2]
    top = np.take_along_axis(values, order, axis=1).astype(np.float32)
    paths, labels = tuple(map(str, left)), start.task.labels
    pool = Pool(paths, labels, order[:, 0], order[:, 1], top[:, 0], top[:, 0] - top[:, 1], None, (standardised[left],))
    both = standardised[np.concatenate([known, left])].astype(np.float32)
    both -= both[len(known) :].mean(axis=0)
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    return Draw(pool, values, both[len(known) :], both[: len(known)], seed)


def main() -> None:
    """Measure, and write the table into the page."""
    torch.set_num_threads(1)
    columns = {
        f"{images.name}, {per_class} labels a class": accuracies(images, per_class)
        for images in (digits(), flowers())
        for per_class in images.start
    }
    lines = [f"| 100 more labels | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    starts = [f"{found['before'].mean():.3f}" for found in columns.values()]
    lines.append(f"| none | {' | '.join(starts)} |")
    for name in WAYS:
        lines.append(f"| {name} | {' | '.join(_cell(found, name) for found in columns.values())} |")
    text = "\n".join(lines)
    print(text)
    PAGE.write_text(BLOCK.sub(lambda _: f"\n{text}\n\n", PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def _cell(found: Mapping[str, npt.NDArray[np.float64]], name: str) -> str:
    """Return the mean accuracy, and how much higher it is than at random in the same draws, with its 95 % interval."""
    if name == "at random":
        return f"{found[name].mean():.3f}"
    apart = found[name] - found["at random"]
    reach = student.ppf(0.975, len(apart) - 1) * apart.std(ddof=1) / np.sqrt(len(apart))
    return f"{found[name].mean():.3f} ({apart.mean():+.3f}, {apart.mean() - reach:+.3f} to {apart.mean() + reach:+.3f})"


if __name__ == "__main__":
    main()
