"""What a second run costs, and what more images cost in memory: each measured in a fresh process."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.data import ROOT, dataset_of
from benchmarks.measure import Result, Spread, at_most
from graft.dataset import ImageDataset, write_dataset

STEP = """
import sys, time
from pathlib import Path
from components.extract_features.step import extract_features
from graft.log import SilentLog
from graft.params import ExtractFeaturesParams
extract_features(Path(sys.argv[1]), Path(sys.argv[2]), ExtractFeaturesParams(), SilentLog())
"""
PEAK = (
    STEP
    + """
import json, resource
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
"""
)


def reruns(work: Path, rounds: int) -> list[Result]:
    """The step extract_features on unchanged images, from the start of Python to its end."""
    dataset = dataset_of("hymenoptera", work / "hymenoptera")
    _python(STEP, dataset.path, work / "first", {})
    seconds = []
    for number in range(rounds):
        start = time.perf_counter()
        _python(STEP, dataset.path, work / f"again-{number}", {})
        seconds.append(time.perf_counter() - start)
    return [at_most("unchanged extract_features, whole process", Spread.of(seconds), 2.0, "s")]


def memory(work: Path, rounds: int) -> list[Result]:
    """Peak memory of an extraction of 1, 4 and 16 times as many images."""
    del rounds
    base = dataset_of("hymenoptera", work / "hymenoptera")
    peaks = []
    for times in (1, 4, 16):
        many = _repeated(base, 64 * times, work / f"images-{times}")
        output = _python(PEAK, many.path, work / f"features-{times}", {"GRAFT_CACHE": "off"})
        peaks.append(json.loads(output.strip().splitlines()[-1]) / 1024)
    note = ", ".join(f"{64 * times} images {peak:.0f} MB" for times, peak in zip((1, 4, 16), peaks, strict=True))
    return [at_most("peak memory, 16x the images / 1x", Spread.of([peaks[2] / peaks[0]]), 1.15, "x", note=note)]


def _repeated(base: ImageDataset, count: int, place: Path) -> ImageDataset:
    """Write a set of `count` images that all differ in content: bytes after a JPEG's end change its digest only."""
    rows = [row % len(base) for row in range(count)]
    table = base.table.iloc[rows].reset_index(drop=True)
    table["id"] = [f"{number:08x}{name[8:]}" for number, name in enumerate(table["id"])]
    return write_dataset(place, table, (base.image(row) for row in rows), base.classes)


def _python(code: str, dataset: Path, features: Path, environment: dict[str, str]) -> str:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(dataset), str(features)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
