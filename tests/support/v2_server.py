"""MLServer with its MLflow runtime, as KServe runs it, in its own environment: the Open Inference Protocol (V2)."""

import json
import os
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

# Workers of MLServer 1.7.1 die with the event loops of newer versions of uvloop.
PACKAGES = ("mlserver==1.7.1", "mlserver-mlflow==1.7.1", "uvloop<0.22", "tritonclient[grpc,http]==2.73.0")
SECONDS = 120


class Served(NamedTuple):
    """Where a server listens."""

    http: str
    """URL of the model."""
    grpc: str


def mlserver_environment(folder: Path) -> Path:
    """Make an environment with MLServer, above this one: its own packages come first; return its commands' folder.

    GRAFT_MLSERVER names a ready one. The test is skipped where it cannot be installed.
    """
    ready = os.environ.get("GRAFT_MLSERVER")
    if ready:
        return Path(ready) / "bin"
    commands = ([sys.executable, "-m", "venv", folder], [folder / "bin/pip", "install", "-q", *PACKAGES])
    for command in commands:
        try:
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
        except subprocess.TimeoutExpired:
            pytest.skip("MLServer was not installed within ten minutes")
        if done.returncode:
            pytest.skip(f"MLServer cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    (own,) = folder.glob("lib/python*/site-packages")
    (own / "zz_of_the_tests.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin"


@contextmanager
def v2_serving(environment: Path, model: Path, folder: Path) -> Iterator[Served]:
    """Start a server of an MLflow model as KServe does, with a worker; its settings and log are in `folder`."""
    port, grpc_port = free_port(), free_port()
    settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": grpc_port, "metrics_port": free_port()}
    runtime = {
        "name": "graft",
        "implementation": "mlserver_mlflow.MLflowRuntime",
        "parameters": {"uri": str(model)},
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(runtime))
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    log = (folder / "log.txt").open("w")
    process = subprocess.Popen(
        [environment / "mlserver", "start", str(folder)],
        stdout=log,
        stderr=subprocess.STDOUT,
        env=own | {"MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"},
    )
    address = f"http://127.0.0.1:{port}/v2/models/graft"
    try:
        end = time.monotonic() + SECONDS
        while not _ready(address):
            assert process.poll() is None, (folder / "log.txt").read_text()[-2000:]
            assert time.monotonic() < end, (folder / "log.txt").read_text()[-2000:]
            time.sleep(0.5)
        yield Served(address, f"127.0.0.1:{grpc_port}")
    finally:
        process.terminate()
        process.wait(timeout=30)
        log.close()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def ask(address: str, images: list[str], **more: Any) -> tuple[int, dict[str, Any]]:
    """Return the status and the answer; the outputs by name, with what is JSON in them read."""
    tensor = {"name": "image", "shape": [len(images), 1], "datatype": "BYTES", "data": images, **more}
    body = json.dumps({"inputs": [tensor]}).encode()
    request = urllib.request.Request(f"{address}/infer", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as found:
            outputs = json.load(found)["outputs"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    plain = {}
    for output in outputs:
        nested = output.get("parameters", {}).get("content_type") == "pd_json"
        plain[output["name"]] = [json.loads(value) for value in output["data"]] if nested else output["data"]
    return 200, plain
