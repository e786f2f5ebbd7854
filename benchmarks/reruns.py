"""What a second run costs, and what more images cost in memory: each measured in a fresh process."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.data import ROOT, dataset_of
from benchmarks.measure import Result, Spread, at_most
from graft.dataset import ImageDataset, write_dataset

STEP = """
import sys
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
    whole, imports = [], []
    for number in range(rounds):
        imports.append(_cpu_seconds(lambda: _python("import components.extract_features.step", work, work, {})))
        again = work / f"again-{number}"
        whole.append(_cpu_seconds(lambda again=again: _python(STEP, dataset.path, again, {})))
    own = Spread.of([a - b for a, b in zip(whole, imports, strict=True)])
    note = f"beyond {Spread.of(imports).median:.2f} s of starting Python and importing pandas; torch is not imported"
    return [at_most("unchanged extract_features", own, 0.5, "CPU s", note=note)]


def _cpu_seconds(call: Callable[[], object]) -> float:
    """Return the processor time of the processes that `call` starts and waits for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    call()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


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
