"""Accuracy of the training steps on several datasets and seeds: the head, and the model after fine-tuning."""

import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.data import ROOT, folder_of
from benchmarks.measure import Result, Spread, at_least
from components.fine_tune.step import fine_tune
from components.train_head.step import train_head
from graft.backbones.incremental import extract_into
from graft.backbones.weights import PACKAGED
from graft.data.dataset import ImageDataset
from graft.data.records import Split
from graft.demo.demo_digits import write_demo
from graft.heads.backbone_selection import choose_backbone
from graft.models.bundle import ModelBundle
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.fine_tune import FineTuneParams
from graft.params.train_head import TrainHeadParams
from graft.params.validate_data import ValidateDataParams
from graft.quality.validation import validate
from graft.runs.run_log import SilentLog
from graft.stats.metrics import ece

GOALS = {
    "digits": 0.975,
    "hymenoptera": 0.93,
    "flower_photos_mini": 0.90,
    "sketches": None,
    "cartoons": None,
    "paintings": None,
    "photos": None,
}
"""Minimum test accuracy of the whole pipeline."""
PACS = {"sketches": "sketch", "cartoons": "cartoon", "paintings": "art_painting", "photos": "photo"}
"""Domains of pacs_mini by the name of the data set."""

LARGER = tuple(name for name in PACKAGED if name != ExtractFeaturesParams().backbone)
"""Backbones other than the default whose weights are installed."""


def accuracy(work: Path, rounds: int) -> list[Result]:
    """Test accuracy of head and model, and the gain in validation accuracy by fine-tuning; one seed per round."""
    results = []
    for name, goal in GOALS.items():
        folder = dataset_folder(name, work)
        runs = [_run(folder, work / f"{name}-{seed}", seed) for seed in range(rounds)]
        head, model = ([run[part] for run in runs] for part in ("head", "model"))
        note = f"seeds: {', '.join(f'{value:.3f}' for value in model)}; " + "; ".join(
            f"{run['stages'] or 'no stage kept'}" for run in runs
        )
        results.append(Result(f"{name}: head, test accuracy", _range(head), ""))
        measured = _range(model)
        results.append(
            at_least(f"{name}: whole pipeline, test accuracy", measured, goal, unit="", note=note)
            if goal
            else Result(f"{name}: whole pipeline, test accuracy", measured, "", note=note)
        )
        gains = [run["val_model"] - run["val_head"] for run in runs]
        results.append(
            at_least(f"{name}: validation accuracy, model less head, worst seed", Spread.of([min(gains)]), 0.0, unit="")
        )
        for what in ("log loss", "ECE"):
            pair = ([run[f"{part} {what}"] for run in runs] for part in ("head", "model"))
            head_range, model_range = map(_range, pair)
            told = f"head {head_range.median:.3f} ({head_range.low:.3f} to {head_range.high:.3f})"
            results.append(Result(f"{name}: whole pipeline, test {what}", model_range, "", note=told))
        results.append(Result(f"{name}: fine-tuning", Spread.of([run["seconds"] for run in runs]), "s"))
    return results


def backbones(work: Path, rounds: int) -> list[Result]:
    """Test accuracy of the whole pipeline on flowers with the larger installed backbones, and with `auto`."""
    results = []
    name = "flower_photos_mini"
    for backbone, prefer in (*((name, "balance") for name in LARGER), ("auto", "balance"), ("auto", "accuracy")):
        place = work / f"{backbone}-{prefer}"
        runs = [_run(folder_of(name), place / str(seed), seed, backbone, prefer) for seed in range(rounds)]
        tested = [run["model"] for run in runs]
        note = f"seeds: {', '.join(f'{value:.3f}' for value in tested)}; heads alone: " + ", ".join(
            f"{run['head']:.3f}" for run in runs
        )
        if backbone == "auto":
            note += f"; chosen: {', '.join(run['backbone'] for run in runs)}"
            backbone = f"auto, prefer={prefer}"
        results.append(at_least(f"{name}: {backbone}, test accuracy", _range(tested), GOALS[name], unit="", note=note))
        gains = [run["val_model"] - run["val_head"] for run in runs]
        what = f"{name}: {backbone}, validation accuracy, model less head, worst seed"
        results.append(at_least(what, Spread.of([min(gains)]), 0.0, unit=""))
    return results


def dataset_folder(name: str, work: Path) -> Path:
    """Return the folder of one of the datasets in `GOALS` or `PACS`."""
    if name == "digits":
        write_demo(work / name)
        return work / name
    if name in PACS:
        shared = Path(os.environ.get("GRAFT_SHARED", ROOT.parent / "shared"))
        folder = shared / "data" / "pacs_mini" / PACS[name]
        if not folder.is_dir():
            raise SystemExit("benchmarks: pacs_mini is missing; set GRAFT_SHARED")
        return folder
    return folder_of(name)


def _run(
    folder: Path, work: Path, seed: int, backbone: str = ExtractFeaturesParams().backbone, prefer: Any = "balance"
) -> dict[str, Any]:
    checked = validate(folder, ValidateDataParams(seed=seed, on_leakage="drop"))
    dataset = checked.write(work / "dataset")
    params = ExtractFeaturesParams(backbone=backbone, prefer=prefer)
    if backbone == "auto":
        params, _ = choose_backbone(dataset, params)
    extract_into(work / "features", dataset, params)
    train_head(work / "features", work / "head", TrainHeadParams(seed=seed), SilentLog())
    start = time.perf_counter()
    fine_tune(dataset.path, work / "features", work / "head", work / "model", FineTuneParams(seed=seed), SilentLog())
    seconds = time.perf_counter() - start
    head, model = ModelBundle.load(work / "head"), ModelBundle.load(work / "model")
    found = {
        "backbone": params.backbone,
        **_test_scores("head", dataset, head),
        **_test_scores("model", dataset, model),
        "val_head": _accuracy(dataset, head, "val"),
        "val_model": _accuracy(dataset, model, "val"),
        "stages": ", ".join(stage.name for stage in model.spec.stages if stage.kept),
        "seconds": seconds,
    }
    print(f"  {folder.name}, {params.backbone}, seed {seed}: {found}", flush=True)
    return found


def _test_scores(name: str, dataset: ImageDataset, model: ModelBundle) -> dict[str, float]:
    """Return accuracy, log loss and expected calibration error on the test images."""
    rows, reader = dataset.indices("test"), dataset.reader()
    targets = dataset.targets()[rows]
    logits = model.logits(reader[int(row)] for row in rows)
    probabilities = model.task.probabilities(logits, model.spec.temperature)
    return {
        name: float((logits.argmax(1) == targets).mean()),
        f"{name} log loss": float(model.task.log_losses(probabilities, targets).mean()),
        f"{name} ECE": float(np.squeeze(ece(targets, probabilities))),
    }


def _accuracy(dataset: ImageDataset, model: ModelBundle, split: Split) -> float:
    rows = dataset.indices(split)
    reader = dataset.reader()
    if split == "val" and model.validation is not None:  # from before the model was refitted on these images
        logits = model.validation.aligned(dataset.table["id"].iloc[rows])
    else:
        logits = model.logits(reader[int(row)] for row in rows)
    found: npt.NDArray[np.bool_] = logits.argmax(1) == dataset.targets()[rows]
    return float(found.mean())


def _range(values: list[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))
