"""Readers on bytes that are nearly right: an answer or one clear line; no crash, no hang, no memory beyond a cap.

Each try changes a real file a little: bits, blocks, numbers, lengths. `corpus/` keeps what once found a fault, and is
tried first. Seconds: `GRAFT_FUZZ_SECONDS`, for all readers together.
"""

import io
import json
import os
import random
import resource
import time
import warnings
from pathlib import Path

import pytest
from PIL import Image

from graft.core.errors import GraftError
from graft.imaging import transform
from tests.faults.conftest import Count
from tests.faults.readers import Attempt, readers
from tests.support.finished_run import FinishedRun

SECONDS = float(os.environ.get("GRAFT_FUZZ_SECONDS", "45"))
MOST_TRIES = None if "GRAFT_FUZZ_SECONDS" in os.environ else 1000
"""For each reader: by default every machine tries the same files, if it has the time."""
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
    b"[" * 20_000,
    b"<script>alert(1)</script>",
    b"\"'><img src=x onerror=alert(1)>",
    b"\n" + b"x" * 300,
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


def peak_megabytes() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


@pytest.mark.timeout(900 + 2 * SECONDS)
def test_every_reader(finished_run: FinishedRun, root: Path, tmp_path: Path, count: Count) -> None:
    seed = int(os.environ.get("GRAFT_FUZZ_SEED", "0"))
    known, tried, survived, losses = readers(finished_run, root), 0, 0, []
    Path("/proc/self/clear_refs").write_text("5")  # the peak of memory begins anew
    before = peak_megabytes()
    for number, (name, prepare) in enumerate(known.items()):
        content, attempt = prepare(tmp_path / str(number))
        attempt(content)  # unchanged it is read
        end = time.monotonic() + SECONDS / len(known)
        kept = sorted((CORPUS / str(name).replace(": ", "-").replace(" ", "-")).glob("*"))
        tries, generator, own = iter([file.read_bytes() for file in kept]), random.Random(seed + number), 0
        while (data := next(tries, None)) is not None or (time.monotonic() < end and own != MOST_TRIES):
            if data is None:
                data, own = changed(content, generator), own + 1
            tried += 1
            began, spent = time.monotonic(), time.process_time()
            fault = said(attempt, data)
            # Other work may take the machine for as long, but not without end.
            if time.process_time() - spent > HANG_SECONDS or time.monotonic() - began > 30 * HANG_SECONDS:
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


def said(attempt: Attempt, data: bytes) -> str:
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
