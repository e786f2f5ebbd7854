"""The champion of a name over HTTP, as `make serve` serves it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

START_SECONDS = 180
ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def serving(name: str, log: Path) -> Iterator[str]:
    """Start the server, wait until it answers, and yield the address that takes questions."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "pipelines.cli", "serve", "--port", str(port), "--name", name]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env=os.environ, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(START_SECONDS):
            assert process.poll() is None, log.read_text()
            try:
                if requests.get(f"{address}/ping", timeout=5).ok:
                    break
            except requests.ConnectionError:
                time.sleep(1)
        yield f"{address}/invocations"
    finally:
        if process.poll() is None:  # else its own words are the failure
            os.killpg(process.pid, 15)
            process.wait(30)
