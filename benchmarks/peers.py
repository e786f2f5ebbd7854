"""Complete trainings compared with fastai: time and accuracy on the same images, from the same weights."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.data import ROOT, dataset_of, folder_of
from benchmarks.measure import Result, Spread, at_least, at_most, in_turn
from benchmarks.staged import IMAGES, epochs
from components.extract_features.step import extract_features
from components.fine_tune.step import fine_tune
from components.train_head.step import train_head
from graft.backbones.backbone import build_backbone
from graft.data.dataset import ImageDataset
from graft.models.bundle import ModelBundle
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.fine_tune import FineTuneParams
from graft.params.train_head import TrainHeadParams
from graft.runs.run_log import SilentLog


def frozen_epoch(work: Path, rounds: int) -> list[Result]:
    """An epoch of fastai with a frozen resnet18, compared with one of a stage above layer3 on cached activations."""
    dataset = dataset_of("hymenoptera", work / "hymenoptera")
    calls, _ = epochs(dataset, build_backbone("resnet18", "none"), "layer3", IMAGES)
    ratios, theirs, ours = [], [], []
    for _ in range(max(1, rounds // 2)):
        theirs.append(_fastai("resnet18", "freeze")["train_ms_per_image"][-1])
        ours.append(in_turn({"cached": calls["cached"]}, 1)["cached"][0] / IMAGES * 1000)
        ratios.append(theirs[-1] / ours[-1])
    note = f"resnet18: {Spread.of(theirs).median:.1f} against {Spread.of(ours).median:.1f} ms/image, layer4 trained"
    return [at_least("fastai frozen epoch / staged epoch", Spread.of(ratios), 4.0, note=note)]


def fine_tuning(work: Path, rounds: int) -> list[Result]:
    """Time of fastai's `fine_tune(4)`, compared with extract + head + staged unfreezing, on ants and bees."""
    dataset = dataset_of("hymenoptera", work / "hymenoptera")
    shares, ours, theirs = [], [], []
    for round_number in range(max(1, rounds // 3)):
        ours.append(_staged(dataset, work / f"staged-{round_number}"))
        theirs.append(_fastai("tf_efficientnet_lite0", "4"))
        shares.append(ours[-1][0] / theirs[-1]["seconds"])
    accuracy, peer = ours[-1][1], theirs[-1]["accuracy"]
    return (
        [
            at_most(
                "extract + head + staged / fastai fine_tune(4)",
                Spread.of(shares),
                0.1,
                "x",
                note=f"{ours[-1][0]:.1f} s against {theirs[-1]['seconds']:.0f} s",
            ),
            at_least(
                "test accuracy, Graft",
                Spread.of([value for _, value in ours]),
                round(peer, 3),
                "",
                note=f"fastai: {', '.join(format(found['accuracy'], '.3f') for found in theirs)}",
            ),
        ]
        if accuracy
        else []
    )


def _staged(dataset: ImageDataset, place: Path) -> tuple[float, float]:
    start = time.perf_counter()
    extract_features(dataset.path, place / "features", ExtractFeaturesParams(), SilentLog())
    train_head(place / "features", place / "head", TrainHeadParams(), SilentLog())
    fine_tune(dataset.path, place / "features", place / "head", place / "model", FineTuneParams(), SilentLog())
    seconds = time.perf_counter() - start
    test = dataset.indices("test")
    logits = ModelBundle.load(place / "model").logits([dataset.image(int(row)) for row in test])
    return seconds, float((logits.argmax(1) == dataset.targets()[test]).mean())


def _fastai(architecture: str, mode: str) -> dict[str, Any]:
    """Run fastai in a separate process; BENCH_PYTHON may name another Python that has fastai."""
    python = os.environ.get("BENCH_PYTHON", sys.executable)
    command = [
        python,
        "-W",
        "ignore",
        "-m",
        "benchmarks.peer_fastai",
        str(folder_of("hymenoptera")),
        architecture,
        mode,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"benchmarks: fastai failed: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found
