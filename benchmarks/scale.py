"""python -m benchmarks.scale: the cost of each step per image, and whether it predicts larger datasets.

Every step runs with its command from `dvc.yaml`, in a separate process, on JPEGs made from the demo's digits. A cost
model (see `cost_model`) is fitted to some runs and checked on others. Takes about forty minutes on 2 idle cores.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from benchmarks.cost_model import Cost, Runs, checks, memory, predictions
from benchmarks.data import ROOT
from graft.demo.demo_digits import write_demo

# Fixed costs dominate small datasets, so these are measured more than once, in turn with large ones.
FITTED, CHECKED = (1000, 20_000, 2000, 8000, 12_000, 4000), (1000, 16_000, 4000, 1000, 16_000)
PREDICTED, WORKERS = (10_000, 100_000, 1_000_000, 100_000_000), (1, 8, 64)
SIDE, QUALITY = 48, 85  # pixels; shown to the backbone at twice that
_STRIDE = 7919  # so that any number of images holds all classes
FILE = ROOT / "docs" / "scale.json"
# Fine-tuning is off: its stages depend on the content of the images, not only on their number.
OFF = "fine_tune"
LEFT_OUT = "register_model"  # does not depend on the images at all
OVERRIDES: Mapping[str, Mapping[str, Any]] = {
    "extract_features": {"backend": "openvino"},  # the automatic choice for large datasets
    "fine_tune": {"enabled": False, "refit": False},
    "evaluate": {"random_init": False, "learning_curve": False, "explain": False},
}


def write_images(folder: Path, count: int) -> None:
    """Write `count` different JPEGs in class folders: demo digits, rotated, shifted, each on its own background."""
    write_demo(folder / "digits")
    digits = sorted((folder / "digits" / "train").rglob("*.png"))
    for number in range(count):
        source = digits[number * _STRIDE % len(digits)]
        place = folder / "images" / source.parent.name
        place.mkdir(parents=True, exist_ok=True)
        _variant(source, number).save(place / f"{number:06d}.jpg", quality=QUALITY)


def measure(folder: Path, images: int) -> Iterator[tuple[str, Cost]]:
    """Run the steps on the images in `folder` and yield the cost of each."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for section, values in OVERRIDES.items():
        params[section] |= values
    params["get_data"]["source"] = str(folder / "images")
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for name, stage in stages.items():
        if name != LEFT_OUT:
            yield name, _run(stage, folder, images)


def main() -> None:
    """Measure, save the numbers, and print how well the cost model predicts them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument(
        "--fit", type=int, nargs="+", default=FITTED, help="numbers of images the model is fitted to, one run for each"
    )
    parser.add_argument(
        "--check", type=int, nargs="+", default=CHECKED, help="numbers of images it is checked on, one run for each"
    )
    parser.add_argument("--table", action="store_true", help="measure nothing, print the saved numbers")
    options = parser.parse_args()
    if options.table:
        print(*tables(read()), sep="\n")
        return
    found: dict[str, dict[str, list[Cost]]] = {}
    # Nothing is deleted before the end: ext4 creates files slowly for minutes after many were deleted.
    with tempfile.TemporaryDirectory(prefix="graft-scale-") as name:
        for number, (use, images) in enumerate(in_turn({"fitted": options.fit, "checked": options.check})):
            folder = Path(name) / f"{number}"
            write_images(folder, images)
            for step, cost in measure(folder, images):
                found.setdefault(step, {"fitted": [], "checked": []})[use].append(cost)
                print(f"{use} {step}: {cost}", flush=True)
                _save(found)
    print(*tables(read()), sep="\n")


def in_turn(sizes: Mapping[str, Sequence[int]]) -> list[tuple[str, int]]:
    """Return each use with each of its sizes, evenly mixed, so that changes of the machine's load affect all alike."""
    placed = [
        ((number + 0.5) / len(some), use, size) for use, some in sizes.items() for number, size in enumerate(some)
    ]
    return [(use, size) for _, use, size in sorted(placed)]


def read() -> dict[str, Runs]:
    """Return the saved numbers by step."""
    kept = json.loads(FILE.read_text(encoding="utf-8"))["steps"]
    return {
        step: Runs(*(tuple(Cost(**cost) for cost in runs[use]) for use in ("fitted", "checked")))
        for step, runs in kept.items()
    }


def tables(steps: Mapping[str, Runs]) -> Iterator[str]:
    """Yield the tables of `docs/scale.md`."""
    counted = {step: runs for step, runs in steps.items() if step != OFF}
    yield from ("CPU time in seconds:", "", *checks(counted), "")
    yield from ("Wall time in seconds:", "", *checks(counted, "seconds"), "")
    yield from ("Memory and disk:", "", *memory(counted), "")
    yield from ("Extrapolated:", "", *predictions(counted, PREDICTED, WORKERS))


def _variant(source: Path, number: int) -> Image.Image:
    generator = np.random.default_rng(number)
    digit = Image.open(source).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    moved = digit.rotate(
        generator.uniform(-25, 25), Image.Resampling.BILINEAR, translate=tuple(generator.integers(-12, 13, 2).tolist())
    )
    ground = Image.fromarray(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((SIDE, SIDE))
    white = Image.new("RGB", (SIDE, SIDE), "white")
    return Image.composite(white, ground, moved)


def _run(stage: Mapping[str, Any], folder: Path, images: int) -> Cost:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "GRAFT_CACHE": str(folder / "cache"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlruns/mlflow.db",
    }
    command = [sys.executable, *shlex.split(stage["cmd"])[1:]]
    start = time.monotonic()
    with (folder / "log").open("a") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    peak = 0
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        peak = max(peak, _anonymous(process.pid))
        time.sleep(0.05)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit((folder / "log").read_text(encoding="utf-8")[-2000:])
    written = sum(_size(folder / out) for out in stage["outs"])
    return Cost(images, usage.ru_utime + usage.ru_stime, time.monotonic() - start, written, peak)


def _anonymous(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    sizes = [int(entry.split()[1]) for entry in status.splitlines() if entry.startswith("RssAnon")]
    return 1024 * sizes[0] if sizes else 0


def _size(path: Path) -> int:
    return (
        sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else path.stat().st_size
    )


def _save(found: Mapping[str, Mapping[str, list[Cost]]]) -> None:
    steps = {
        step: {use: [asdict(cost) for cost in costs] for use, costs in runs.items()} for step, runs in found.items()
    }
    content = {"load": os.getloadavg()[1], "steps": steps}
    FILE.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
