"""What a picture shows and how it was made: two tasks on PACS, beside one, and on pairs that training never saw."""

import csv
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch

from components.extract_features.step import extract_features
from components.train_head.step import train_head
from components.validate_data.step import validate_data
from graft.backbones.feature_store import FeatureStore
from graft.models.bundle import ModelBundle
from graft.models.export import pixel_network
from graft.models.inference import cached_logits
from graft.models.learn_head import learn_heads
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.train_head import TrainHeadParams
from graft.params.validate_data import ValidateDataParams
from graft.runs.run_log import SilentLog
from graft.stats.metrics import Values
from graft.tasks.single_label import SingleLabel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
LOG = SilentLog()
TEST_IMAGES = 10
"""Of every class in every domain."""
LEFT_OUT, DRAWS = 4, 12


class Learnt(NamedTuple):
    """Features, and heads for the tasks that were asked for."""

    store: FeatureStore
    model: ModelBundle
    seconds: float
    """Of processor time for extraction and heads."""

    def probabilities(self, number: int, split: str = "test") -> tuple[Values, npt.NDArray[np.int64]]:
        """Return those of a task, and its targets."""
        one = self.model.by_task[number]
        store = self.store.of_task(self.store.tasks[number])
        rows = np.flatnonzero((store.table["split"] == split).to_numpy())
        return one.probabilities(cached_logits(store, one, rows)), store.targets()[rows]

    def accuracy(self, number: int) -> float:
        found, targets = self.probabilities(number)
        return float((found.argmax(axis=1) == targets).mean())


def write_manifest(photos: Path, folder: Path, emptied: bool = False) -> Path:
    """Copy the images with a manifest in which ten of each cell are for the test; `emptied`: half have no domain."""
    rng = np.random.default_rng(0)
    shutil.copytree(photos, folder)
    rows: list[list[str]] = []
    for cell in sorted(folder.glob("*/*")):
        files = sorted(cell.iterdir())
        test = set(rng.permutation(len(files))[:TEST_IMAGES].tolist())
        rows += [
            [file.relative_to(folder).as_posix(), cell.name, cell.parent.name, "test" if place in test else "train"]
            for place, file in enumerate(files)
        ]
    if emptied:
        rows = [
            [path, label, domain if place % 2 else "", split] for place, (path, label, domain, split) in enumerate(rows)
        ]
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label", "domain", "split"], *rows])
    return folder


def learn(raw: Path, folder: Path, labels: list[str]) -> Learnt:
    params = ValidateDataParams(labels=labels, on_leakage="warn")
    validate_data(raw, folder / "dataset", folder / "page", params, LOG)
    started = processor_seconds()
    extract_features(folder / "dataset", folder / "features", ExtractFeaturesParams(), LOG)
    train_head(folder / "features", folder / "head", TrainHeadParams(memory=False), LOG)
    seconds = processor_seconds() - started
    return Learnt(FeatureStore.read(folder / "features"), ModelBundle.load(folder / "head"), seconds)


def processor_seconds() -> float:
    """Of this process and its children."""
    return sum(os.times()[:4])


@pytest.fixture(scope="module")
def raw(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_manifest(shared / "data/pacs_mini", tmp_path_factory.mktemp("pacs") / "raw")


@pytest.fixture(scope="module")
def alone(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Learnt:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAFT_CACHE", "off")
        return learn(raw, tmp_path_factory.mktemp("alone"), ["label"])


@pytest.fixture(scope="module")
def two(alone: Learnt, raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Learnt:
    """After `alone`, which has warmed everything up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAFT_CACHE", "off")
        return learn(raw, tmp_path_factory.mktemp("two"), ["label", "domain"])


def test_both_tasks_are_learnt(two: Learnt) -> None:
    found = two.accuracy(0), two.accuracy(1)
    print(f"class {found[0]:.3f}, domain {found[1]:.3f}")
    assert found[0] >= 0.91
    assert found[1] >= 0.96


def test_the_class_is_learnt_as_if_it_were_alone(two: Learnt, alone: Learnt) -> None:
    together, single = two.model.by_task[0], alone.model
    assert together.spec.backbone.depth == single.spec.backbone.depth
    rows = np.flatnonzero((two.store.table["split"] == "test").to_numpy())
    found = cached_logits(two.store.of_task(two.store.tasks[0]), together, rows)
    assert np.abs(found - cached_logits(alone.store, single, rows)).max() <= 1e-6


def test_half_of_the_domains_emptied_changes_nothing_about_the_class(two: Learnt, shared: Path, tmp_path: Path) -> None:
    raw = write_manifest(shared / "data/pacs_mini", tmp_path / "raw", emptied=True)
    half = learn(raw, tmp_path, ["label", "domain"])
    for name, tensor in two.model.by_task[0].classifier.head.state_dict().items():
        assert torch.equal(tensor, half.model.by_task[0].classifier.head.state_dict()[name])
    assert np.array_equal(half.probabilities(0)[0], two.probabilities(0)[0])
    assert 0.45 < len(half.store.of_task(half.store.tasks[1]).labelled("test")) / 280 < 0.55


def test_two_tasks_cost_hardly_more_than_one(two: Learnt, alone: Learnt) -> None:
    print(f"{two.seconds:.1f} s against {alone.seconds:.1f} s")
    assert two.seconds <= 1.25 * alone.seconds


def test_an_answer_to_both_takes_as_long_as_one(two: Learnt, alone: Learnt) -> None:
    image = torch.randint(0, 256, (1, 3, two.model.transform.size, two.model.transform.size), dtype=torch.uint8)
    networks = [pixel_network(model.all_heads).eval() for model in (two.model, alone.model)]
    both, one = in_turn([lambda network=network: network(image) for network in networks])
    print(f"{1000 * both:.1f} ms against {1000 * one:.1f} ms")
    assert both <= 1.05 * one


def in_turn(calls: list[Callable[[], Any]], rounds: int = 40) -> list[float]:
    """Return the median processor seconds of each call."""
    seconds: list[list[float]] = [[] for _ in calls]
    with torch.inference_mode():
        for _ in range(rounds + 5):
            for call, found in zip(calls, seconds, strict=True):
                started = time.process_time()
                call()
                found.append(time.process_time() - started)
    return [median(found[5:]) for found in seconds]


class Cells(NamedTuple):
    """Shares of right answers to pictures of cells that training never saw."""

    label: float
    domain: float


def test_pairs_that_training_never_saw(two: Learnt) -> None:
    """Four pairs of class and domain are left out at a time; one head over the pairs cannot answer with them."""
    draws = [unseen(two.store, seed) for seed in range(DRAWS)]
    separate, product = (Cells(*np.mean([draw[kind] for draw in draws], axis=0)) for kind in (0, 1))
    print(f"separate heads {separate}, one head over the pairs {product}")
    assert separate.label >= 0.48
    assert separate.domain >= 0.78
    assert separate.label > product.label
    assert separate.domain > product.domain


def unseen(store: FeatureStore, seed: int) -> tuple[Cells, Cells]:
    """Return what separate heads and one over the pairs answer to four cells that are left out, one of each domain."""
    rng = np.random.default_rng(seed)
    names = [list(task.labels) for task in store.tasks]
    truth = [store.table[column].to_numpy() for column in ("label", "domain")]
    cells = set(zip(rng.permutation(names[0])[:LEFT_OUT], rng.permutation(names[1])[:LEFT_OUT], strict=True))
    pairs = list(zip(*truth, strict=True))
    held_out = np.array([pair in cells for pair in pairs])
    splits = np.where(held_out, "test", np.where(rng.random(len(pairs)) < 0.2, "val", "train"))
    cut = replace(store, table=store.table.assign(split=splits))
    separate = [answers(cut.of_task(task))[held_out].argmax(axis=1) for task in cut.tasks]
    joined = np.array([" of ".join(pair) for pair in pairs])
    known = sorted(set(joined[~held_out]))
    product = cut.of_task(SingleLabel(labels=tuple(known)))
    product = replace(product, table=cut.table.assign(label=np.where(held_out, known[0], joined)))
    shares = answers(product)[held_out]
    marginal = [
        np.stack([shares[:, [pair.split(" of ")[part] == name for pair in known]].sum(axis=1) for name in own], axis=1)
        for part, own in enumerate(names)
    ]
    found = [
        [(np.array(own)[chosen] == true[held_out]).mean() for own, chosen, true in zip(names, best, truth, strict=True)]
        for best in (separate, [one.argmax(axis=1) for one in marginal])
    ]
    return Cells(*found[0]), Cells(*found[1])


def answers(store: FeatureStore) -> Values:
    """Fit a head to the training images of one task; return the probabilities of all images (n, C)."""
    (learnt,) = learn_heads(store, TrainHeadParams(head="linear"), lambda _: None)
    return learnt.bundle.probabilities(cached_logits(store, learnt.bundle, np.arange(len(store.table))))
