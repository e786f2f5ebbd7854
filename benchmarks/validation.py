"""Data validation compared with plain decoding and with cleanvision, and how the near-duplicate search scales."""

import io
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.data import ROOT, folder_of
from benchmarks.measure import Result, Spread, at_least, at_most, in_turn, ratio
from graft.core.cpu import available_cores
from graft.data.listing import list_images
from graft.params.validate_data import ValidateDataParams
from graft.quality.image_statistics import examine_all
from graft.quality.inventory import take_inventory
from graft.quality.perceptual_hashes import hash_pairs

SIZES = (1_000, 10_000, 100_000)
# cleanvision has no equivalent of the other checks.
_PEER = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
from cleanvision import Imagelab
start = time.perf_counter()
Imagelab(data_path=sys.argv[1]).find_issues(n_jobs=int(sys.argv[2]), verbose=False)
print(json.dumps(time.perf_counter() - start))
"""


def validation(work: Path, rounds: int) -> list[Result]:
    """Examining images compared with decoding them, and the whole inventory with cleanvision, on the same files."""
    folder = folder_of("hymenoptera")
    records = list_images(folder).records
    files = [record.file for record in records]
    seconds = in_turn(
        {"decode": lambda: _decode(files), "examine": lambda: list(examine_all(records, 10**9, 2**30))}, rounds
    )
    # cleanvision reads one folder of images.
    flat = work / "flat"
    flat.mkdir()
    for number, file in enumerate(files):
        shutil.copy(file, flat / f"{number:05d}{file.suffix}")
    params = ValidateDataParams()
    os.environ["GRAFT_CACHE"] = "off"
    peer, ours = [], []
    for _ in range(max(1, rounds // 2)):
        peer.append(_cleanvision(flat))
        start = time.perf_counter()
        take_inventory(folder, params)
        ours.append(time.perf_counter() - start)
    note = (
        f"{len(files)} photos: {Spread.of(peer).median:.1f} s against {Spread.of(ours).median:.1f} s, splits included"
    )
    images_per_second = [len(files) / one for one in seconds["examine"]]
    return [
        Result("examined", Spread.of(images_per_second), "images/s"),
        at_most("examine / plain Pillow decoding", ratio(seconds["examine"], seconds["decode"]), 1.5, "x"),
        at_least(
            "cleanvision / inventory", Spread.of([a / b for a, b in zip(peer, ours, strict=True)]), 3.0, note=note
        ),
    ]


def near_duplicates(work: Path, rounds: int) -> list[Result]:
    """Seconds to find the 1 % of hashes with a near-duplicate, by number of hashes."""
    del work
    generator = np.random.default_rng(0)
    medians, notes = [], []
    for size in SIZES:
        hashes = generator.integers(0, 2**63, size, dtype=np.uint64)
        flips = np.array([1 << int(bit) for bit in generator.integers(0, 63, size // 100)], dtype=np.uint64)
        hashes[-len(flips) :] = hashes[: len(flips)] ^ flips
        medians.append(Spread.of(in_turn({"search": partial(_search, hashes)}, rounds)["search"]))
        notes.append(f"{size:,}: {medians[-1].median:.2g} s")
    growth = medians[-1].median / medians[-2].median
    return [at_most("search, 10x the hashes", Spread.of([growth]), 30.0, "x the time", note=", ".join(notes))]


def _search(hashes: npt.NDArray[np.uint64]) -> int:
    return sum(len(first) for first, _ in hash_pairs(hashes))


def _decode(files: list[Path]) -> None:
    def one(file: Path) -> None:
        Image.open(io.BytesIO(file.read_bytes())).load()

    with ThreadPoolExecutor(available_cores()) as pool:
        list(pool.map(one, files))


def _cleanvision(folder: Path) -> float:
    """Run cleanvision in a separate process; BENCH_PYTHON may name another Python that has cleanvision."""
    python = os.environ.get("BENCH_PYTHON", sys.executable)
    command = [python, "-W", "ignore", "-c", _PEER, str(folder), str(available_cores())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"benchmarks: cleanvision failed: {done.stderr.strip().splitlines()[-1]}")
    return float(json.loads(done.stdout.strip().splitlines()[-1]))
