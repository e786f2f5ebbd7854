"""python -m benchmarks.pixels [people] [nuts]: masks and objects beside other libraries, into docs/segmentation.md.

Every candidate starts from the same frozen weights, sees the same photos at the same size, and runs in a process of its
own on one thread; all answers are scored by the same code at the photos' own size.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import ROOT
from benchmarks.measure import machine
from benchmarks.peer_python import run_peer
from benchmarks.peer_torchvision import FALLS
from benchmarks.pixel_answers import read_logits, read_objects
from components.validate_data.step import validate_data
from graft.decoders import assessment as masks
from graft.decoders.answers import answer
from graft.detectors import assessment as objects
from graft.imaging.letterbox import fitted
from graft.imaging.transform import Transform
from graft.masks.dataset import MaskDataset
from graft.masks.scores import mean_interval
from graft.objects.object_dataset import ObjectDataset
from graft.params.evaluate import EvaluateParams
from graft.params.validate_data import ValidateDataParams
from graft.runs.run_log import SilentLog

PAGE = ROOT / "docs" / "segmentation.md"
PEOPLE = {"task": "segment", "mask_values": {0: "background", 255: "person"}, "on_leakage": "warn"}
NUTS = {"task": "instances", "val_fraction": 0.0, "test_fraction": 1 / 3, "severity": {"empty_split": "warn"}}
SMP = ("unet", "fpn")
Rows = Sequence[Mapping[str, Any]]


def people(source: Path, folder: Path) -> Path:
    """Write human_seg with 190 training, 40 validation and 60 test photos into `folder`, which exists."""
    for name in ("Training_Images", "Ground_Truth"):
        shutil.copytree(source / name, folder / name)
    photos = sorted((source / "Training_Images").iterdir(), key=lambda file: file.stem)
    place = np.random.default_rng(0).permutation(len(photos))
    split = {int(row): "train" if at < 190 else "val" if at < 230 else "test" for at, row in enumerate(place)}
    rows = [f"Training_Images/{file.name},Ground_Truth/{file.stem}.png,{split[row]}" for row, file in enumerate(photos)]
    (folder / "manifest.csv").write_text("\n".join(["path,mask,split", *rows]), encoding="utf-8")
    return folder


def _child(module: str, *arguments: str) -> Rows:
    """Run a candidate in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{module} failed: {done.stderr.strip().splitlines()[-1]}")
    rows: Rows = json.loads(done.stdout.strip().splitlines()[-1])
    return rows


def _semantic(source: Path, work: Path) -> Iterator[str]:
    """Yield the table of masks of people."""
    raw, dataset = work / "raw", work / "dataset"
    raw.mkdir(parents=True)
    validate_data(people(source, raw), dataset, work / "page", ValidateDataParams.model_validate(PEOPLE), SilentLog())
    found = [*_child("benchmarks.pixels_graft", "segment", str(dataset), str(work))]
    for architecture in SMP:
        found += json.loads(run_peer("smp", "benchmarks.peer_smp", architecture, str(dataset), str(work)) or "[]")
    data = MaskDataset.read(dataset, "segment")
    rows = data.rows("test")
    features = json.loads((work / "features" / "features.json").read_text(encoding="utf-8"))
    size = Transform.model_validate(features["backbone"]["transform"]).size
    boxes = [fitted(int(h), int(w), size) for h, w in data.table[["height", "width"]].to_numpy()[rows]]
    yield f"`human_seg`: {len(data.rows('train'))} training photos at {size} pixels, {len(rows)} test photos."
    yield ""
    yield "| | mean IoU (95 %) | boundary F | CPU s | memory | trained parameters | backbone as it was |"
    yield "|---|---|---|---|---|---|---|"
    for one in found:
        logits = read_logits(Path(one["answers"]))
        answers = ((answer(seen, box, size), None) for seen, box in zip(logits, boxes, strict=True))
        photos = masks.judge(data, rows, answers).photos
        iou = mean_interval(photos["mean_iou"].to_numpy(), data.groups[rows], 1000, 0.95, 0)
        told = f"{iou.value:.3f} ({iou.low:.3f} to {iou.high:.3f}) | {photos['boundary_f'].mean():.3f}"
        yield f"| {one['name']} | {told} | {_cost(one)} |"


def _instances(source: Path, work: Path) -> Iterator[str]:
    """Yield the table of nuts and fruit."""
    dataset = work / "dataset"
    validate_data(source, dataset, work / "page", ValidateDataParams.model_validate(NUTS), SilentLog())
    found = [*_child("benchmarks.pixels_graft", "instances", str(dataset), str(work))]
    for schedule in FALLS:
        found += _child("benchmarks.peer_torchvision", str(dataset), str(work), schedule)
    data = ObjectDataset.open(dataset)
    rows, groups = data.rows("test"), data.groups[data.rows("test")]
    yield f"`nuts_coco`: {len(data.rows('train'))} training photos, short side 256 pixels, {len(rows)} test photos."
    yield ""
    yield "| | mask AP50 (95 %) | mask AP | box AP | CPU s | memory | trained parameters | backbone as it was |"
    yield "|---|---|---|---|---|---|---|---|"
    for one in found:
        judged = objects.judge(data, rows, read_objects(Path(one["answers"])), 0.5)
        scores = objects.precision_intervals(judged, groups, EvaluateParams())
        ap50, ap, box = (scores[name] for name in ("mask_ap50", "mask_ap", "box_ap"))
        told = f"{ap50.value:.3f} ({ap50.low:.3f} to {ap50.high:.3f}) | {ap.value:.3f} | {box.value:.3f}"
        yield f"| {one['name']} | {told} | {_cost(one)} |"


def _cost(one: Mapping[str, Any]) -> str:
    kept = "yes" if one["frozen"] else "no"
    return f"{one['seconds']:.0f} | {one['memory']:,.0f} MiB | {one['parameters']:,} | {kept}"


TABLES: Mapping[str, tuple[str, Callable[[Path, Path], Iterator[str]]]] = {
    "people": ("human_seg", _semantic),
    "nuts": ("nuts_coco", _instances),
}


def main() -> None:
    """Measure the named tables, or both, and write them into the page."""
    shared = Path(os.environ.get("GRAFT_SHARED", ROOT.parent / "shared")) / "data"
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in sys.argv[1:] or TABLES:
        source, table = TABLES[name]
        with tempfile.TemporaryDirectory(prefix="graft-bench-") as work:
            os.environ["GRAFT_CACHE"] = f"{work}/cache"
            lines = list(table(shared / source, Path(work)))
        told = f"{machine()}, one thread, {time.strftime('%Y-%m-%d', time.gmtime())}. {lines[0]}"
        text = "\n".join(["", told, *lines[1:], "", ""])
        print(text)
        block = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- end of {name} -->)", re.DOTALL)
        PAGE.write_text(block.sub(lambda _, new=text: new, PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
