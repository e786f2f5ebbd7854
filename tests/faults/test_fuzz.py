"""Readers on bytes that are nearly right: an answer or one clear line; no crash, no hang, no memory beyond a cap.

Each try changes a real file a little: bits, blocks, numbers, lengths. `corpus/` keeps what once found a fault, and is
tried first. Seconds: `GRAFT_FUZZ_SECONDS`, for all readers together.
"""

import io
import json
import os
import random
import resource
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from graft.backbones.feature_store import FeatureStore
from graft.core.checksums import SUMS_FILE
from graft.core.errors import GraftError
from graft.core.tensors import read_arrays
from graft.data.dataset import ImageDataset
from graft.data.label_queue import read_queue
from graft.data.listing import list_images
from graft.evaluation.held_out_table import read_predictions
from graft.evaluation.schema import read_evaluation
from graft.imaging import transform
from graft.models.bundle import ModelBundle
from graft.params.params import Params
from graft.training.checkpoints import Checkpoint
from tests.faults.conftest import Count
from tests.support.finished_run import FinishedRun
from tests.support.pictures import picture

SECONDS = float(os.environ.get("GRAFT_FUZZ_SECONDS", "45"))
HANG_SECONDS = 20.0
MOST_MEGABYTES = 1000
CORPUS = Path(__file__).parent / "corpus"
WORDS = (
    b"=",
    b"-1",
    b"nan",
    b"1e999",
    b"../",
    b"\0",
    b"[",
    b"{",
    b'"',
    b"\xff\xfe",
    b"\r\n",
    b",",
    b"&a *a",
    b"9" * 40,
)


def changed(content: bytes, generator: random.Random) -> bytes:
    """Return the content with one to four small changes."""
    data = bytearray(content)
    for _ in range(generator.choice((1, 1, 2, 4))):
        at = generator.randrange(len(data) + 1)
        match generator.randrange(6):
            case 0 if data:
                data[min(at, len(data) - 1)] ^= 1 << generator.randrange(8)
            case 1:
                del data[at : at + generator.choice((1, 4, 64, len(data)))]
            case 2:
                data[at:at] = generator.choice(WORDS)
            case 3:
                data[at : at + 4] = generator.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0"))
            case 4:
                data[at:at] = data[: generator.randrange(65)]
            case _:
                data = data[:at]
    return bytes(data)


def artifact(source: Path, name: str, read: Callable[[Path], object]) -> Callable[[Path], tuple[bytes, Callable]]:
    """Fuzz one file of an artifact that has no checksums, which would find everything."""

    def prepare(work: Path) -> tuple[bytes, Callable[[bytes], object]]:
        shutil.copytree(source, work, ignore=shutil.ignore_patterns(SUMS_FILE))

        def attempt(content: bytes) -> object:
            file = work / name
            file.unlink()
            file.write_bytes(content)
            return read(work)

        return (source / name).read_bytes(), attempt

    return prepare


def text_file(content: bytes, name: str, read: Callable[[Path], object]) -> Callable[[Path], tuple[bytes, Callable]]:
    def prepare(work: Path) -> tuple[bytes, Callable[[bytes], object]]:
        work.mkdir()
        (work / "cat").mkdir()
        picture(0, 0).save(work / "cat" / "0.png")

        def attempt(changed: bytes) -> object:
            (work / name).write_bytes(changed)
            return read(work / name)

        return content, attempt

    return prepare


def encoded(kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    picture(0, 0, 48).save(content, kind, **options)
    return content.getvalue()


def readers(run: FinishedRun, root: Path) -> dict[str, Callable[[Path], tuple[bytes, Callable[[bytes], object]]]]:
    """Every reader of files that somebody else may have written, with a file that it reads."""
    taps = sorted((run.folder / "features" / "taps").iterdir())
    queue = b"path,label,suggested,score,decision,new_label\ncat/0.png,cat,dog,0.9,relabel,dog\nb.png,dog,cat,0.5,,\n"
    manifest = b"path,label,split\ncat/0.png,cat,train\n"

    def images(folder: Path) -> object:
        return list(ImageDataset.read(folder).reader())

    def tap(folder: Path) -> object:
        return float(FeatureStore.read(folder).tap(taps[-1].stem.partition("-")[2]).sum())

    found = {
        "folder with a manifest": text_file(manifest, "manifest.csv", lambda file: list_images(file.parent)),
        "review queue": text_file(queue, "queue.csv", read_queue),
        "params.yaml": text_file((root / "params.yaml").read_bytes(), "params.yaml", Params.load),
        "checkpoint": text_file(checkpoint(), "one.safetensors", lambda file: Checkpoint(file).read()),
        "tensors": text_file((run.model / "head.safetensors").read_bytes(), "a.safetensors", read_arrays),
        "dataset: json": artifact(run.dataset, "dataset.json", images),
        "dataset: table": artifact(run.dataset, "table.parquet", images),
        "dataset: images": artifact(run.dataset, "train/data-00000.arrow", images),
        "features: json": artifact(run.folder / "features", "features.json", FeatureStore.read),
        "features: array": artifact(run.folder / "features", f"taps/{taps[-1].name}", tap),
        "bundle: json": artifact(run.model, "bundle.json", ModelBundle.load),
        "bundle: head": artifact(run.model, "head.safetensors", ModelBundle.load),
        "evaluation": artifact(run.evaluation, "scores.json", read_evaluation),
        "predictions": artifact(run.evaluation, "predictions.parquet", read_predictions),
    }
    options = {"JPEG": {}, "PNG": {}, "WEBP": {}, "BMP": {}, "GIF": {}, "TIFF": {"compression": "tiff_lzw"}}
    for kind, chosen in options.items():
        content = encoded(kind, **chosen)
        found[f"image: {kind}"] = lambda work, content=content: (content, lambda data: transform.decode(data).sum())
    return found


def checkpoint() -> bytes:
    import tempfile

    import torch

    with tempfile.TemporaryDirectory() as folder:
        one = Checkpoint(Path(folder) / "one.safetensors")
        one.write(lambda: {"a": torch.arange(12.0), "b": torch.zeros(3)}, due=True)
        return one.file.read_bytes()


def peak_megabytes() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def test_every_reader(finished_run: FinishedRun, root: Path, tmp_path: Path, count: Count) -> None:
    generator = random.Random(int(os.environ.get("GRAFT_FUZZ_SEED", "0")))
    known, tried, survived, losses = readers(finished_run, root), 0, 0, []
    Path("/proc/self/clear_refs").write_text("5")  # the peak of memory begins anew
    before = peak_megabytes()
    for number, (name, prepare) in enumerate(known.items()):
        content, attempt = prepare(tmp_path / str(number))
        attempt(content)  # unchanged it is read
        end = time.monotonic() + SECONDS / len(known)
        kept = sorted((CORPUS / str(name).replace(": ", "-").replace(" ", "-")).glob("*"))
        tries = iter([file.read_bytes() for file in kept])
        while (data := next(tries, None)) is not None or time.monotonic() < end:
            data = changed(content, generator) if data is None else data
            tried += 1
            began = time.monotonic()
            fault = said(attempt, data)
            if time.monotonic() - began > HANG_SECONDS:
                fault = "it hangs"
            survived += not fault
            if fault:
                losses.append(f"{name}: {fault}")
                place = CORPUS / str(name).replace(": ", "-").replace(" ", "-")
                place.mkdir(parents=True, exist_ok=True)
                (place / fault.partition(":")[0].replace(" ", "-")).write_bytes(data)
    grown = peak_megabytes() - before
    print(f"memory grew by {grown:.0f} MB")
    print(json.dumps(losses[:20], indent=1))
    count("a file changed at random, by its reader", tried, survived)
    count("memory of the readers of changed files, within 1 GB", 1, int(grown < MOST_MEGABYTES))


def said(attempt: Callable[[bytes], object], data: bytes) -> str:
    """Return what was wrong with an attempt, empty if nothing was."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            attempt(data)
    except GraftError as error:
        return "" if "\n" not in str(error) else f"more than one line: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return ""


@pytest.mark.parametrize("width", [30_000, 100_000])
def test_a_decompression_bomb_is_refused_by_its_header(width: int, count: Count) -> None:
    content = io.BytesIO()
    Image.new("1", (width, 30_000)).save(content, "PNG")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(GraftError, match="more than the"):
        transform.decode(content.getvalue())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024
    count("a decompression bomb", 1, 1)
