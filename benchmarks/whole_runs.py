"""Whole runs of the pipeline, before and after: the command as a user calls it, in this checkout and in an older one.

`GRAFT_BENCH_BASE` names the revision to compare with; without it only this checkout runs. Both use the packages of the
Python that runs the benchmark. Every run starts with an empty cache and a new MLflow store.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.data import ROOT, folder_of
from benchmarks.measure import Result, Spread, at_most, ratio

BASE = "GRAFT_BENCH_BASE"
MANY_CLASSES, IMAGES_PER_CLASS, SIDE = 840, 8, 96


@dataclass(frozen=True)
class Checkout:
    """A working tree with the pipeline, and the folder for what its runs leave behind."""

    tree: Path
    scratch: Path

    def seconds(self, data: Path | str, params: str = "", *, out: str = "out", fresh: bool = True) -> float:
        """Run the pipeline; return its wall time in seconds.

        Args:
            data: folder of images.
            params: as for `make run`.
            out: name of the folder of outputs.
            fresh: whether nothing of earlier runs is left.
        """
        if fresh:
            shutil.rmtree(self.scratch, ignore_errors=True)
            self.scratch.mkdir(parents=True)
        environment = os.environ | {
            "PYTHONPATH": str(self.tree),
            "GRAFT_CACHE": str(self.scratch / "cache"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.scratch / 'mlflow.db'}",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "GX_ANALYTICS_ENABLED": "False",
        }
        command = [sys.executable, "-m", "pipelines.cli", "run"]
        command += ["--data", str(data), "--params", params, "--out", str(self.scratch / out)]
        start = time.perf_counter()
        done = subprocess.run(command, cwd=self.tree, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"benchmarks: {' '.join(command)} failed in {self.tree}:\n{done.stdout}{done.stderr}")
        return time.perf_counter() - start

    def steps(self, out: str = "out") -> Mapping[str, float]:
        """Return the wall time of each step of the last run, in seconds."""
        found: Mapping[str, float] = json.loads((self.scratch / out / "summary.json").read_text())["seconds"]
        return found


def run_demo(work: Path, rounds: int) -> list[Result]:
    """From a folder to a registered model: the demo, 1,500 digits, and the same again with nothing changed."""
    digits = _demo(work)
    results = _before_and_after(work, digits, rounds, seconds=80, share=0.45)
    new, _ = _checkouts(work)
    new.seconds(digits)
    again = [new.seconds(digits, fresh=False) for _ in range(rounds)]
    return [*results, at_most("again, nothing changed", Spread.of(again), 10, "s")]


def run_photos(work: Path, rounds: int) -> list[Result]:
    """From a folder to a registered model: 398 photos of ants and bees."""
    return _before_and_after(work, folder_of("hymenoptera"), rounds, seconds=40)


def run_few(work: Path, rounds: int) -> list[Result]:
    """From a folder to a registered model: 40 small pictures, the fixed cost of a run."""
    return _before_and_after(work, _pictures(work / "few", classes=2, each=20, side=SIDE), rounds, seconds=15)


def _before_and_after(
    work: Path, data: Path, rounds: int, *, seconds: float, share: float | None = None
) -> list[Result]:
    """Run both checkouts in turn.

    Args:
        work: folder for everything that the runs write.
        data: folder of images.
        rounds: runs of each checkout.
        seconds: goal of this checkout.
        share: goal of its time as a share of the older one's.
    """
    new, old = _checkouts(work)
    after, before, note = [], [], ""
    for _ in range(rounds):
        after.append(new.seconds(data))
        note = ", ".join(f"{step} {value:.1f}" for step, value in new.steps().items())
        if old:
            before.append(old.seconds(data))
        print(f"  after {after[-1]:.1f} s, before {before[-1] if before else float('nan'):.1f} s", flush=True)
    results = [at_most("now", Spread.of(after), seconds, "s", f"of the last run: {note}")]
    if old:
        of_before = ratio(after, before)
        results.append(Result(f"commit {os.environ[BASE]}", Spread.of(before), "s"))
        results.append(at_most("now / then", of_before, share, "x") if share else Result("now / then", of_before, "x"))
    return results


def many_classes(work: Path, rounds: int) -> list[Result]:
    """840 classes of 8 pictures, a frozen backbone: time and memory of the steps after extraction."""
    new, old = _checkouts(work)
    data = _pictures(work / "many", classes=MANY_CLASSES, each=IMAGES_PER_CLASS, side=SIDE)
    goals = {"train_head": 60.0, "evaluate": 40.0}
    results = []
    for name, checkout in (("", new), (" before", old)):
        if checkout is None:
            continue
        taken: dict[str, list[float]] = {step: [] for step in goals}
        for _ in range(rounds if checkout is new else 1):
            checkout.seconds(data, "fine_tune.enabled=false validate_data.on_leakage=warn")
            for step, values in taken.items():
                values.append(checkout.steps()[step])
        for step, values in taken.items():
            result = Spread.of(values)
            results.append(Result(f"{step}{name}", result, "s") if name else at_most(step, result, goals[step], "s"))
    # Linux reports kilobytes: the largest of all processes that ran, which is a step.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    return [*results, Result("largest process of all runs", Spread.of([peak]), "GiB")]


def _checkouts(work: Path) -> tuple[Checkout, Checkout | None]:
    new = Checkout(ROOT, work / "new")
    revision = os.environ.get(BASE)
    if not revision:
        return new, None
    tree = work / "base"
    if not tree.is_dir():
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(tree)], check=True)
        subprocess.run(["git", "-C", str(tree), "checkout", "--quiet", revision], check=True)
    return new, Checkout(tree, work / "old")


def _demo(work: Path) -> Path:
    from graft.demo.demo_digits import write_demo

    write_demo(work / "digits")
    return work / "digits"


def _pictures(folder: Path, classes: int, each: int, side: int) -> Path:
    """Write classes of noisy pictures, each class with a pattern of its own."""
    if folder.is_dir():
        return folder
    for label in range(classes):
        pattern = np.random.default_rng(label).uniform(40, 215, (8, 8, 3))
        place = folder / f"class-{label:04d}"
        place.mkdir(parents=True)
        for number in range(each):
            noise = np.random.default_rng((label, number)).normal(0, 60, (side, side, 3))
            pixels = np.kron(pattern, np.ones((side // 8, side // 8, 1))) + noise
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / f"{number}.jpg", quality=90)
    return folder
