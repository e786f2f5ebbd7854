"""A server under requests that ask for too much: it answers each, stays small, and serves the healthy ones in time."""

import base64
import io
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import requests
from PIL import Image

from tests.faults.conftest import Count
from tests.support.finished_run import NAME, FinishedRun
from tests.support.pictures import picture

START_SECONDS = 240
SOAK_SECONDS = float(os.environ.get("GRAFT_SOAK_SECONDS", "0"))
IN_TIME = 20.0
"""Seconds for a healthy request among bad ones; alone it takes milliseconds."""


class Server:
    """A served model, and the memory of its process."""

    def __init__(self, url: str, process: psutil.Process) -> None:
        self.url = url
        self.process = process

    def ask(self, *images: bytes) -> requests.Response:
        records = [{"image": base64.b64encode(image).decode()} for image in images]
        return requests.post(f"{self.url}/invocations", json={"dataframe_records": records}, timeout=120)

    def megabytes(self) -> float:
        found = self.process.memory_info().rss
        return sum([found, *(child.memory_info().rss for child in self.process.children(recursive=True))]) / 2**20


@pytest.fixture(scope="module")
def server(finished_run: FinishedRun, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The champion as `make serve` serves it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "pipelines.cli", "serve", "--port", str(port), "--name", NAME]
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("w") as output:
        environment = os.environ | {"MLFLOW_TRACKING_URI": finished_run.store}
        process = subprocess.Popen(command, cwd=root, stdout=output, stderr=subprocess.STDOUT, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(START_SECONDS):
            assert process.poll() is None, log.read_text()
            try:
                if requests.get(f"{url}/ping", timeout=5).ok:
                    break
            except requests.ConnectionError:
                time.sleep(1)
        yield Server(url, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(60)


def png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG", compress_level=1)
    return content.getvalue()


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """100 megapixels in a few hundred kilobytes."""
    return png(Image.new("RGB", (10_000, 10_000), (200, 30, 30)))


@pytest.fixture(scope="module")
def large() -> bytes:
    """As large as the server takes, 49 megapixels."""
    return png(Image.new("RGB", (7_000, 7_000), (30, 200, 30)))


def test_sixteen_bombs_and_a_healthy_request(server: Server, bomb: bytes, large: bytes, count: Count) -> None:
    small = png(picture(0, 0, 32))
    assert server.ask(small).status_code == 200
    idle, peak, stop = server.megabytes(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.05):
            peak = max(peak, server.megabytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(24) as pool:
            bombs = [pool.submit(server.ask, bomb) for _ in range(16)]
            heavy = [pool.submit(server.ask, large) for _ in range(4)]
            began = time.monotonic()
            healthy = server.ask(small)
            waited = time.monotonic() - began
            answers = [future.result() for future in bombs]
            heavy_answers = [future.result() for future in heavy]
    finally:
        stop.set()
        watcher.join()
    time.sleep(1)
    after = server.megabytes()
    print(f"idle {idle:.0f} MB, peak {peak:.0f} MB, after {after:.0f} MB, a healthy request {waited:.2f} s")
    count("a picture of 100 megapixels", 16, sum(answer.status_code == 400 for answer in answers))
    count("a picture at the server's limit", 4, sum(answer.status_code in (200, 503) for answer in heavy_answers))
    count("a healthy request among bad ones", 1, int(healthy.status_code == 200 and waited < IN_TIME))
    count("memory of a server after bad requests, within 20 % of idle", 1, int(after <= 1.2 * idle))
    count("memory of a server during bad requests, within 1.5 GB of idle", 1, int(peak <= idle + 1500))


def test_too_many_rows_and_bytes_are_413(server: Server, count: Count) -> None:
    small = png(picture(0, 0, 32))
    many = server.ask(*[small] * 300)
    assert many.status_code == 413, many.text
    assert "300 images in one request" in many.text
    long = requests.post(
        f"{server.url}/invocations", data=b" " * (65 * 2**20), headers={"Content-Type": "application/json"}, timeout=60
    )
    assert long.status_code == 413
    chunked = requests.post(
        f"{server.url}/invocations",
        data=(b" " * 2**20 for _ in range(70)),
        headers={"Content-Type": "application/json"},
        timeout=60,
    )
    assert chunked.status_code == 413
    count("a request of too many rows or bytes", 3, 3)


BAD: list[tuple[bytes, str]] = [
    (b"", "application/json"), (b"{", "application/json"), (b"[]", "application/json"), (b"null", "application/json"),
    (b'{"dataframe_records": []}', "application/json"), (b'{"dataframe_records": [{}]}', "application/json"),
    (b'{"dataframe_records": [{"image": 1}]}', "application/json"),
    (b'{"dataframe_records": [{"image": null}]}', "application/json"),
    (b'{"dataframe_records": [{"image": "!!"}]}', "application/json"),
    (b'{"dataframe_records": [{"image": "AAAA"}]}', "application/json"),
    (b'{"dataframe_split": {"columns": ["x"], "data": [["AAAA"]]}}', "application/json"),
    (b'{"inputs": {"image": [[1, 2], [3]]}}', "application/json"), (b'{"instances": "x"}', "application/json"),
    (b"image\n\xff", "text/csv"), (b"image\nAAAA\n", "text/csv"), (b"x", "application/x-parquet"),
    (b"x", "image/png"), (b"\0" * 1000, "application/octet-stream"), (b"[" * 100_000, "application/json"),
]  # fmt: skip


def test_bad_requests_get_an_answer_that_says_so(server: Server, count: Count) -> None:
    survived = 0
    for body, kind in BAD:
        answer = requests.post(f"{server.url}/invocations", data=body, headers={"Content-Type": kind}, timeout=60)
        survived += answer.status_code in (400, 415, 422) or (answer.status_code == 200 and b"[]" in body)
        if answer.status_code >= 500:
            print(body[:60], kind, answer.status_code, answer.text[:200])
    survived += server.ask(png(picture(0, 0, 32))).status_code == 200
    count("a malformed request", len(BAD) + 1, survived)


@pytest.mark.timeout(900 + SOAK_SECONDS)
@pytest.mark.skipif(not SOAK_SECONDS, reason="make soak: minutes of mixed requests")
def test_memory_stays_flat_over_an_hour_of_traffic(server: Server, bomb: bytes, large: bytes, count: Count) -> None:
    small, tried, survived, memory = png(picture(0, 0, 32)), 0, 0, []
    bodies = [(small,), (small, small), (bomb,), (large,), (b"no image",), (small,) * 300]
    end = time.monotonic() + SOAK_SECONDS
    with ThreadPoolExecutor(4) as pool:
        while time.monotonic() < end:
            answers = list(pool.map(lambda number: server.ask(*bodies[number % len(bodies)]), range(24)))
            expected = [(200,), (200,), (400,), (200, 503), (400,), (413,)]
            tried += len(answers)
            survived += sum(answer.status_code in expected[n % len(bodies)] for n, answer in enumerate(answers))
            memory.append(server.megabytes())
    count("a request of the soak", tried, survived)
    early, late = max(memory[: len(memory) // 4]), max(memory[-len(memory) // 4 :])
    print(f"memory {early:.0f} MB in the first quarter, {late:.0f} MB in the last, {tried} requests")
    count("memory of a server over the soak, flat", 1, int(late <= 1.2 * early))
