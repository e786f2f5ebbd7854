"""The cost of a second run, and the memory for more images: each measured in a new process."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.data import ROOT, dataset_of
from benchmarks.measure import Result, Spread, at_most
from graft.data.dataset import ImageDataset, write_dataset

STEP = """
import sys
from pathlib import Path
from components.extract_features.step import extract_features
from graft.runs.run_log import SilentLog
from graft.params.extract_features import ExtractFeaturesParams
params = ExtractFeaturesParams(backend=sys.argv[3], batch_size=8)
extract_features(Path(sys.argv[1]), Path(sys.argv[2]), params, SilentLog())
"""
# Anonymous memory only: mapped files are in the system's cache, which it can drop at any time.
PEAK = (
    """
import json, threading, time
peak = 0
def watch():
    global peak
    while True:
        lines = open("/proc/self/status").read().splitlines()
        peak = max(peak, next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")))
        time.sleep(0.02)
threading.Thread(target=watch, daemon=True).start()
"""
    + STEP
    + "print(json.dumps(peak))\n"
)


def reruns(work: Path, rounds: int) -> list[Result]:
    """CPU time of extract_features on unchanged images, including the start of Python."""
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
    """Peak memory of extraction for 1, 4 and 16 times the images."""
    del rounds
    base = dataset_of("hymenoptera", work / "hymenoptera")
    sets = [_repeated(base, 64 * times, work / f"images-{times}") for times in (1, 4, 16)]
    results = []
    for backend in ("torch", "openvino"):
        peaks = []
        for many in sets:
            output = _python(PEAK, many.path, work / f"{backend}-{len(many)}", {"GRAFT_CACHE": "off"}, backend)
            peaks.append(json.loads(output.strip().splitlines()[-1]) / 1024)
        note = ", ".join(f"{len(many)} images {peak:.0f} MB" for many, peak in zip(sets, peaks, strict=True))
        what = f"peak memory ({backend}), 16x the images / 1x"
        results.append(at_most(what, Spread.of([peaks[2] / peaks[0]]), 1.1, "x", note=note))
    return results


def _repeated(base: ImageDataset, count: int, place: Path) -> ImageDataset:
    """Write a dataset of `count` repeated images, with a different id for each."""
    rows = [row % len(base) for row in range(count)]
    table = base.table.iloc[rows].reset_index(drop=True)
    table["id"] = [f"{number:08x}{name[8:]}" for number, name in enumerate(table["id"])]
    return write_dataset(place, table, (base.image(row) for row in rows), base.classes)


def _python(code: str, dataset: Path, features: Path, environment: dict[str, str], backend: str = "torch") -> str:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(dataset), str(features), backend],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
