"""python -m benchmarks.scale: what each step costs per image, and whether that predicts larger sets.

Every step runs as `dvc.yaml` says, in a process of its own, on JPEGs made from the demo's digits. A line through the
costs at the smaller sizes (seconds of processor time, bytes written) is held against what other sizes cost.
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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from benchmarks.data import ROOT
from graft.demo import write_demo

FITTED, CHECKED = (500, 1000, 2000, 4000), (16000,)
SIDE, QUALITY = 48, 85  # pixels; shown to the backbone at twice that
TOLERANCE = 0.2
_STRIDE = 7919  # so that any number of images holds all classes
FILE = ROOT / "docs" / "scale.json"
# Fine-tuning is switched off: its stages depend on what the images are, not only on how many.
OFF = "fine_tune"
LEFT_OUT = "register_model"  # does not depend on the images at all
OVERRIDES: Mapping[str, Mapping[str, Any]] = {
    "extract_features": {"backend": "openvino"},  # what large sets get by themselves
    "fine_tune": {"enabled": False, "refit": False},
    "evaluate": {"random_init": False, "learning_curve": False, "explain": False},
}


@dataclass(frozen=True)
class Cost:
    """What one step took on one set of images."""

    images: int
    cpu_seconds: float
    seconds: float
    bytes_written: int
    peak_bytes: int
    """Most anonymous memory at any time: pages of mapped files, which the system may drop, are not in it."""


def write_images(folder: Path, count: int) -> None:
    """Write `count` different JPEGs in class folders: demo digits, turned, moved, on a ground of their own."""
    write_demo(folder / "digits")
    digits = sorted((folder / "digits" / "train").rglob("*.png"))
    for number in range(count):
        source = digits[number * _STRIDE % len(digits)]
        place = folder / "images" / source.parent.name
        place.mkdir(parents=True, exist_ok=True)
        _variant(source, number).save(place / f"{number:06d}.jpg", quality=QUALITY)


def measure(folder: Path, images: int) -> Iterator[tuple[str, Cost]]:
    """Run the steps on the images in `folder` and yield what each took."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for section, values in OVERRIDES.items():
        params[section] |= values
    params["get_data"]["source"] = str(folder / "images")
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for name, stage in stages.items():
        if name != LEFT_OUT:
            yield name, _run(stage, folder, images)


def line(costs: Sequence[Cost], field: str) -> tuple[float, float]:
    """Return (fixed, per image) of the straight line through one field of some costs."""
    slope, fixed = np.polyfit([cost.images for cost in costs], [getattr(cost, field) for cost in costs], 1)
    return float(fixed), float(slope)


def main() -> None:
    """Measure, keep the numbers, and tell where the prediction is off."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument(
        "--fit", type=int, nargs="+", default=FITTED, help="numbers of images the line is drawn through"
    )
    parser.add_argument("--check", type=int, nargs="+", default=CHECKED, help="numbers of images it is held against")
    parser.add_argument("--table", action="store_true", help="measure nothing, print the numbers that are kept")
    options = parser.parse_args()
    found: dict[str, list[Cost]] = {}
    if options.table:
        kept = json.loads(FILE.read_text(encoding="utf-8"))["steps"]
        print(*rows({step: [Cost(**cost) for cost in costs] for step, costs in kept.items()}, options.fit), sep="\n")
        return
    for images in sorted({*options.fit, *options.check}):
        with tempfile.TemporaryDirectory(prefix="graft-scale-") as name:
            folder = Path(name)
            write_images(folder, images)
            for step, cost in measure(folder, images):
                found.setdefault(step, []).append(cost)
                print(f"{step}: {cost}", flush=True)
                _save(found)
    print(*rows(found, options.fit), sep="\n")


def rows(found: Mapping[str, Sequence[Cost]], fitted: Sequence[int]) -> Iterator[str]:
    """Yield the table as Markdown: per step its line, then measured over predicted for every other size."""
    sizes = sorted({cost.images for costs in found.values() for cost in costs} - set(fitted))
    told = " | ".join(f"{size:,}" for size in sizes)
    yield f"| step | fixed, s | per image, ms | bytes per image | {told} | memory, MB |"
    yield "|---" * (5 + len(sizes)) + "|"
    for step, costs in found.items():
        if step == OFF:
            continue
        fixed, slope = line([cost for cost in costs if cost.images in fitted], "cpu_seconds")
        written = line(costs, "bytes_written")[1]
        ratios = {cost.images: cost.cpu_seconds / (fixed + slope * cost.images) for cost in costs}
        told = " | ".join(_told(ratios.get(size)) for size in sizes)
        memory = ", ".join(f"{cost.peak_bytes / 2**20:.0f}" for cost in costs)
        yield f"| {step} | {fixed:.1f} | {1000 * slope:.2f} | {written:,.0f} | {told} | {memory} |"


def _told(ratio: float | None) -> str:
    if ratio is None:
        return "not run"
    return f"{ratio:.2f}" if abs(ratio - 1) <= TOLERANCE else f"**{ratio:.2f}**"


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


def _save(found: Mapping[str, Sequence[Cost]]) -> None:
    content = {
        "load": os.getloadavg()[1],
        "steps": {step: [asdict(cost) for cost in costs] for step, costs in found.items()},
    }
    FILE.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
