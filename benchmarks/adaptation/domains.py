"""The features of every domain, each under several BatchNorm statistics: pacs_mini, and two sets of digits.

pacs_mini lies in the folder GRAFT_SHARED, the digits in installed packages. Features take minutes; they are kept in
`outputs/adaptation`.
"""

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from benchmarks.data import ROOT
from graft.adapt.view_heads import SourceHead
from graft.backbones.backbone import Backbone, build_backbone
from graft.backbones.bn_folding import for_inference
from graft.demo.demo_digits import _digits
from graft.heads.class_moments import ClassMoments
from graft.heads.feature_sample import SAMPLE_IMAGES
from graft.heads.linear_probe import PENALTIES, Linear, fit_path
from graft.heads.protocols import Ints, TrainingSet
from graft.models.batch_norm import NORM_BATCH, estimate_norms
from graft.models.classifier import Head
from graft.models.two_views import with_norms
from graft.stats.subsampling import evenly_spaced
from graft.tasks.single_label import SingleLabel

CACHE = ROOT / "outputs" / "adaptation"
BACKBONE = "tf_efficientnet_lite0"
PENALTY = 1e-4
DIGIT_TAPS = ("blocks.4", "blocks.5")
Array = npt.NDArray[np.float32]
SUBSETS: Mapping[str, Sequence[float]] = {
    "full": (1, 1, 1, 1, 1, 1, 1, 1, 1, 1),
    "longtail": (1, 0.7, 0.5, 0.35, 0.25, 0.175, 0.125, 0.125, 0.125, 0.125),
    "five": (1, 1, 1, 1, 1, 0, 0, 0, 0, 0),
    "three": (1, 1, 1, 0, 0, 0, 0, 0, 0, 0),
}
"""Share of each class's images that is kept, in a random order of the classes."""


@dataclass(frozen=True)
class SourceView:
    """A source's images in one view, and the head that is fitted to them."""

    features: Array
    targets: Ints
    task: SingleLabel

    @cached_property
    def head(self) -> SourceHead:
        """The head that was fitted to all of them."""
        made = Head.of(fit(self.features, self.targets, self.task), ("features",))
        weight, bias = (parameter.detach().double().numpy() for parameter in made.linear.parameters())
        moments = ClassMoments.of(self.features, self.targets, self.task.outputs)
        return SourceHead(made, Linear.of_raw(weight, bias), moments, (self.features.shape[1],), self.task)

    @cached_property
    def sample(self) -> "SourceView":
        """As many of them as a model keeps for its second view."""
        order = np.argsort(self.targets, kind="stable")
        rows = order[evenly_spaced(len(order), SAMPLE_IMAGES)] if len(order) > SAMPLE_IMAGES else order
        return SourceView(self.features[rows], self.targets[rows], self.task)


@dataclass(frozen=True)
class Source:
    """What is known of a source."""

    plain: SourceView
    normed: SourceView
    """Under BatchNorm statistics of its own."""

    @property
    def heads(self) -> tuple[SourceHead, SourceHead]:
        """What a trained model keeps: its head, and the one that its second view starts from."""
        return self.plain.head, self.normed.sample.head

    @classmethod
    def of(cls, plain: Array, normed: Array, targets: Ints) -> "Source":
        """Return a source of every class up to the highest."""
        task = SingleLabel(labels=tuple(f"c{label}" for label in range(1 + int(targets.max()))))
        return cls(SourceView(plain, targets, task), SourceView(normed, targets, task))


@dataclass(frozen=True)
class Domain:
    """Features of one domain's images."""

    plain: Array
    normed: Mapping[str, Array]
    """Under the BatchNorm statistics of each subset."""
    rows: Mapping[str, Ints]
    """Of each subset."""
    targets: Ints

    @cached_property
    def source(self) -> Source:
        """The whole domain as a source."""
        return Source.of(self.plain, self.normed["full"], self.targets)

    @cached_property
    def held_out_loss(self) -> float:
        """The cross-validated log loss of a linear head on its own features."""
        folds, order = np.arange(len(self.targets)) % 5, np.random.default_rng(0).permutation(len(self.targets))
        task, losses = self.source.plain.task, []
        for fold in range(5):
            train, held = order[folds != fold], order[folds == fold]
            fitted = fit(self.plain[train], self.targets[train], task)
            losses.append(task.losses(fitted.logits(self.plain[held]), self.targets[held]).mean())
        return float(np.mean(losses))


def fit(features: npt.NDArray[np.floating], targets: Ints, task: SingleLabel) -> Linear:
    """Return a linear head at the penalty that all sources share."""
    path = [penalty for penalty in PENALTIES if penalty >= PENALTY]
    *_, fitted = fit_path(TrainingSet(features, targets, task), path)
    return fitted


@cache
def pacs() -> dict[str, Domain]:
    """Return photo, art, cartoon and sketch."""
    backbone, found = build_backbone(BACKBONE), {}
    for name in sorted(path.name for path in pacs_folder().iterdir() if path.is_dir()):
        contents, targets = _pacs_images(name)
        found[name] = _extract(name, contents, targets, backbone)
    return found


def pacs_folder() -> Path:
    """Return the folder with a folder for each domain of pacs_mini."""
    return Path(os.environ.get("GRAFT_SHARED", ROOT.parent / "shared")) / "data" / "pacs_mini"


def _pacs_images(name: str) -> tuple[list[bytes], Ints]:
    folders = sorted((pacs_folder() / name).iterdir())
    files = [(file, label) for label, folder in enumerate(folders) for file in sorted(folder.iterdir())]
    return [file.read_bytes() for file, _ in files], np.array([label for _, label in files])


@cache
def normed_again(name: str, seed: int) -> Array:
    """Return the features of a domain of pacs_mini under statistics from batches in another order."""
    file = CACHE / f"{name}-seed{seed}.npy"
    if not file.is_file():
        backbone = build_backbone(BACKBONE)
        pixels = torch.stack([backbone.spec.transform.pixels(content) for content in _pacs_images(name)[0]])
        np.save(file, _renormed(backbone, pixels, np.arange(len(pixels)), seed))
    found: Array = np.load(file)
    return found


@cache
def digits(tap: str) -> dict[str, Domain]:
    """Return features of 800 digits of MNIST and 800 of UCI (Alpaydin and Kaynak 1998), both in installed packages.

    The 80 of each class are drawn at random: both lists are in the order of their writers. Digits of UCI fill their
    8 x 8 pixels, so whole images count; the centre square would cut strokes.
    """
    from sklearn.datasets import load_digits

    mnist: dict[int, list[bytes]] = {}
    for path, pixels in _digits():
        mnist.setdefault(int(path.split("/")[1]), []).append(png(pixels))
    scans = load_digits()
    uci: dict[int, list[bytes]] = {}
    for image, label in zip(scans.images, scans.target, strict=True):
        uci.setdefault(int(label), []).append(png((image * 255 / 16).astype(np.uint8)))
    backbone, found = build_backbone(BACKBONE, image_size=96).truncated(tap), {}
    for name, images in (("mnist", mnist), ("uci", uci)):
        drawn = {label: np.random.default_rng(label).permutation(len(images[label]))[:80] for label in range(10)}
        chosen = [(images[label][number], label) for label, numbers in drawn.items() for number in numbers]
        targets = np.array([label for _, label in chosen])
        found[name] = _extract(f"{name}-{tap}", [content for content, _ in chosen], targets, backbone, crop=1.0)
    return found


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return pixels (H, W) as the content of a file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def _extract(
    name: str, contents: Sequence[bytes], targets: Ints, backbone: Backbone, crop: float | None = None
) -> Domain:
    """Return a domain's features, computed once; `crop` replaces the part of an image's side that the backbone sees."""
    file = CACHE / f"{name}.npz"
    if not file.is_file():
        transform = backbone.spec.transform
        if crop is not None:
            transform = transform.model_copy(update={"crop_fraction": crop})
        pixels = torch.stack([transform.pixels(content) for content in contents])
        found: dict[str, npt.NDArray[np.generic]] = {"plain": features(backbone, pixels)}
        for subset, rows in _subsets(targets).items():
            found |= {f"rows/{subset}": rows, f"normed/{subset}": _renormed(backbone, pixels, rows, 0)}
        CACHE.mkdir(parents=True, exist_ok=True)
        np.savez(file, **found)  # type: ignore[arg-type]
    read = np.load(file)
    subsets = {key[5:]: read[key] for key in read if key.startswith("rows/")}
    return Domain(read["plain"], {key[7:]: read[key] for key in read if key.startswith("normed/")}, subsets, targets)


def _renormed(backbone: Backbone, pixels: torch.Tensor, rows: Ints, seed: int) -> Array:
    """Return the features of all images under BatchNorm statistics of some of them."""
    shuffled = rows[np.random.default_rng(seed).permutation(len(rows))]
    parts = np.array_split(shuffled, max(1, round(len(rows) / NORM_BATCH)))
    batches = (backbone.spec.transform.normalise(pixels[torch.from_numpy(part)]) for part in parts)
    return features(with_norms(backbone, estimate_norms(backbone, batches)), pixels)


def features(backbone: Backbone, pixels: torch.Tensor) -> Array:
    """Return what a head reads, (n, D), of pixels (n, C, S, S)."""
    transform = backbone.spec.transform
    network = for_inference(backbone, transform.normalise(pixels[:1]))
    with torch.inference_mode():
        parts = [
            network(transform.normalise(part).contiguous(memory_format=torch.channels_last))
            for part in pixels.split(16)
        ]
    return torch.cat(parts).numpy()


def _subsets(targets: Ints) -> dict[str, Ints]:
    classes = int(targets.max()) + 1
    order, found = np.random.default_rng(0).permutation(classes), dict[str, Ints]()
    for name, shares in SUBSETS.items():
        kept, generator = [], np.random.default_rng(0)
        for label, share in zip(order, shares, strict=False):
            rows = generator.permutation(np.flatnonzero(targets == label))
            kept.append(rows[: round(share * len(rows))])
        found[name] = np.sort(np.concatenate(kept))
    halves = []
    for label in range(classes):
        rows = np.random.default_rng(label).permutation(np.flatnonzero(targets == label))
        halves.append(rows[: len(rows) // 2])
    half = np.sort(np.concatenate(halves))
    return found | {"half": half, "rest": np.setdiff1d(np.arange(len(targets)), half)}
