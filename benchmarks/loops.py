"""A head on frozen features, compared with training loops that run the backbone in every epoch."""

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks.data import dataset_of, folder_of
from benchmarks.measure import Result, Spread, at_least
from components.extract_features.step import extract_features
from graft.backbones.feature_store import FeatureStore
from graft.backbones.weights import create, find_architecture
from graft.data.dataset import ImageDataset
from graft.heads.depth_selection import choose_head
from graft.heads.head_inputs import prepare_head_inputs
from graft.models.fit_head import fit_head
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.train_head import TrainHeadParams
from graft.runs.run_log import SilentLog

EPOCHS = 10
BATCH = 32


def loops(work: Path, rounds: int) -> list[Result]:
    """Ten epochs of a careful and a usual loop, and extraction with a cross-validated head, on ants and bees."""
    dataset = dataset_of("hymenoptera", work / "hymenoptera")
    ours, accuracy, sklearn = [], 0.0, (0.0, 0.0)
    loops: dict[str, list[tuple[float, float]]] = {"careful": [], "usual": []}
    for round_number in range(max(1, rounds // 2)):
        seconds, accuracy, sklearn = _extract_and_head(dataset, work / f"head-{round_number}")
        ours.append(seconds)
        for kind, found in loops.items():
            found.append(_loop(dataset, kind))
    ratios = {kind: Spread.of([a / b for (a, _), b in zip(found, ours, strict=True)]) for kind, found in loops.items()}
    compared = {kind: f"test accuracy {found[-1][1]:.3f} against {accuracy:.3f}" for kind, found in loops.items()}
    return [
        at_least(
            f"{EPOCHS} epochs, careful loop / extract + head",
            ratios["careful"],
            20,
            note=f"eval mode, no graph, tested once at the end; {compared['careful']}",
        ),
        at_least(
            f"{EPOCHS} epochs, usual loop / extract + head",
            ratios["usual"],
            40,
            note=f"train mode, parameters frozen, tested in every epoch; {compared['usual']}",
        ),
        Result(
            "extract + head, all taps cross-validated",
            Spread.of(ours),
            "s",
            note="without the review of the data, which the loops do not have either",
        ),
        Result(
            "scikit-learn head on the same features",
            Spread.of([sklearn[0]]),
            "s",
            note=f"last tap only, C = 1, no cross-validation: test accuracy {sklearn[1]:.3f}",
        ),
    ]


def _extract_and_head(dataset: ImageDataset, place: Path) -> tuple[float, float, tuple[float, float]]:
    """Return our seconds and test accuracy, and those of a plain scikit-learn head."""
    start = time.perf_counter()
    extract_features(dataset.path, place / "features", ExtractFeaturesParams(), SilentLog())
    store = FeatureStore.read(place / "features")
    inputs = prepare_head_inputs(store, TrainHeadParams())
    head = fit_head(inputs, choose_head(inputs, "auto", "auto"))
    seconds = time.perf_counter() - start
    targets, test = store.targets(), store.indices("test")
    seen = np.concatenate([store.indices("train"), store.indices("val")])
    logits = head.logits([dataset.image(int(row)) for row in test])
    accuracy = float((logits.argmax(1) == targets[test]).mean())
    start = time.perf_counter()
    last = np.asarray(store.tap(store.taps[-1]))
    plain = LogisticRegression(max_iter=1000).fit(last[seen], targets[seen])
    return seconds, accuracy, (time.perf_counter() - start, float(plain.score(last[test], targets[test])))


class _Files(Dataset[tuple[torch.Tensor, int]]):
    """Image files, read in the usual way."""

    def __init__(self, dataset: ImageDataset, splits: tuple[str, ...]) -> None:
        chosen = dataset.table[dataset.table["split"].isin(splits)]
        self.files = [folder_of("hymenoptera") / path for path in chosen["path"]]
        self.targets = [dataset.classes.index(label) for label in chosen["label"]]
        transform = find_architecture("tf_efficientnet_lite0").transform
        self.transform = v2.Compose(
            [
                v2.Resize(round(transform.size / transform.crop_fraction)),
                v2.CenterCrop(transform.size),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(list(transform.mean), list(transform.std)),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.open(self.files[index]).convert("RGB")), self.targets[index]


def _loop(dataset: ImageDataset, kind: str) -> tuple[float, float]:
    """Return seconds and test accuracy of a new head trained for `EPOCHS` epochs, with the backbone run in each epoch.

    `careful` keeps the backbone in eval mode, builds no graph for it and tests once at the end. `usual` freezes the
    parameters, calls `model.train()` and tests after every epoch, as tutorials do.
    """
    torch.manual_seed(0)
    start = time.perf_counter()
    body, _ = create("tf_efficientnet_lite0", "default")
    body.reset_classifier(0)  # type: ignore[operator]
    body.requires_grad_(False)
    head = nn.Linear(1280, len(dataset.classes))
    optimiser = torch.optim.Adam(head.parameters(), lr=1e-3)
    options = {"batch_size": BATCH, "num_workers": 2, "persistent_workers": True}
    train = DataLoader(_Files(dataset, ("train", "val")), shuffle=True, **options)  # type: ignore[arg-type]
    test = DataLoader(_Files(dataset, ("test",)), **options)  # type: ignore[arg-type]
    accuracy = 0.0
    for epoch in range(EPOCHS):
        body.train(kind != "careful")
        for images, targets in train:
            with torch.set_grad_enabled(kind != "careful"):
                features = body(images)
            loss = F.cross_entropy(head(features), targets)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        if kind != "careful" or epoch + 1 == EPOCHS:
            accuracy = _accuracy(body, head, test)
    return time.perf_counter() - start, accuracy


def _accuracy(body: nn.Module, head: nn.Module, test: DataLoader[tuple[torch.Tensor, int]]) -> float:
    body.eval()
    right = total = 0
    with torch.no_grad():
        for images, targets in test:
            right += int((head(body(images)).argmax(1) == targets).sum())
            total += len(targets)
    return right / total
