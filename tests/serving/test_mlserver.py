"""Open Inference Protocol (V2) with MLServer and its MLflow runtime, as KServe runs it, in its own environment."""

import base64
import io
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
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from graft.serving.packaging import NETWORK
from graft.serving.server import Classifier
from tests.support.packed_model import pack_untrained
from tests.support.pictures import picture

# Workers of MLServer 1.7.1 die with the event loops of newer versions of uvloop.
PACKAGES = ("mlserver==1.7.1", "mlserver-mlflow==1.7.1", "uvloop<0.22", "tritonclient[grpc,http]==2.73.0")
SECONDS = 120

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Served(NamedTuple):
    """Where a server listens."""

    http: str
    """URL of the model."""
    grpc: str


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    pack_untrained(folder)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with MLServer, above this one: its own packages come first. GRAFT_MLSERVER names a ready one."""
    ready = os.environ.get("GRAFT_MLSERVER")
    if ready:
        return Path(ready) / "bin"
    folder = tmp_path_factory.mktemp("mlserver")
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


@pytest.fixture(scope="module")
def server(packed: Path, environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The model on a server as KServe starts it, with a worker."""
    folder = tmp_path_factory.mktemp("models")
    port, grpc_port = free_port(), free_port()
    settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": grpc_port, "metrics_port": free_port()}
    model = {
        "name": "graft",
        "implementation": "mlserver_mlflow.MLflowRuntime",
        "parameters": {"uri": str(packed / "model")},
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def png(number: int) -> bytes:
    content = io.BytesIO()
    picture(number % 3, number).save(content, "PNG")
    return content.getvalue()


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


@pytest.mark.parametrize("batch", [1, 8])
def test_it_answers_as_the_model_does(server: Served, packed: Path, batch: int) -> None:
    images = [png(number) for number in range(batch)]
    status, found = ask(server.http, [base64.b64encode(image).decode() for image in images])
    assert status == 200, found
    expected = Classifier.load(packed / "model/artifacts" / NETWORK).predict(images)
    assert found["label"] == expected["label"].tolist()
    assert found["set"] == expected["set"].tolist()
    assert found["abstain"] == expected["abstain"].tolist()
    for name in ("confidence", "ood"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)
    for answer, wanted in zip(found["probabilities"], expected["probabilities"], strict=True):
        assert answer == pytest.approx(wanted, abs=1e-5)


def test_bytes_in_the_protocols_own_base64(server: Served) -> None:
    image = base64.b64encode(png(0)).decode()
    typed = ask(server.http, [image], parameters={"content_type": "base64"})
    assert typed == ask(server.http, [image])


@pytest.mark.parametrize(("bad", "said"), [("bm8gaW1hZ2U=", "not an image"), ("%%%", "not valid base64")])
def test_a_bad_image_is_a_400_that_names_the_row(server: Served, bad: str, said: str) -> None:
    status, found = ask(server.http, [base64.b64encode(png(0)).decode(), bad])
    assert status == 400
    assert "row 1: " in found["error"]
    assert said in found["error"]


TRITON = """
import json, sys
from pathlib import Path
import numpy as np

form, address, *files = sys.argv[1:]
if form == "grpc":
    import tritonclient.grpc as triton
else:
    import tritonclient.http as triton
images = np.array([Path(file).read_bytes() for file in files], dtype=object).reshape(-1, 1)
asked = triton.InferInput("image", list(images.shape), "BYTES")
plain = {} if form == "grpc" else {"binary_data": False}
asked.set_data_from_numpy(images, **plain)
client = triton.InferenceServerClient(address)
assert client.is_model_ready("graft")
outputs = [triton.InferRequestedOutput(name, **plain) for name in ("label", "confidence")]
found = client.infer("graft", [asked], outputs=outputs)
answers = {name: found.as_numpy(name).ravel().tolist() for name in ("label", "confidence")}
print(json.dumps(answers, default=bytes.decode))
"""


@pytest.mark.parametrize("form", ["http", "grpc"])
def test_tritons_clients_ask_in_base64(
    server: Served, packed: Path, environment: Path, tmp_path: Path, form: str
) -> None:
    """MLServer decodes bytes as text, over gRPC too, and over HTTP it reads JSON alone."""
    images = [png(number) for number in range(3)]
    files = [tmp_path / f"{number}.txt" for number in range(3)]
    for file, image in zip(files, images, strict=True):
        file.write_bytes(base64.b64encode(image))
    address = server.grpc if form == "grpc" else server.http.removeprefix("http://").partition("/")[0]
    done = subprocess.run(
        [environment / "python", "-c", TRITON, form, address, *files], capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr[-1000:]
    found = json.loads(done.stdout)
    expected = Classifier.load(packed / "model/artifacts" / NETWORK).predict(images)
    assert found["label"] == expected["label"].tolist()
    np.testing.assert_allclose(found["confidence"], expected["confidence"], atol=1e-5)


def test_mlflow_models_predict(packed: Path, environment: Path, tmp_path: Path) -> None:
    images = [png(number) for number in range(3)]
    rows = [{"image": base64.b64encode(image).decode()} for image in images]
    (tmp_path / "in.json").write_text(json.dumps({"dataframe_records": rows}))
    subprocess.run(
        [
            *(environment / "python", "-m", "mlflow", "models", "predict", "-m", packed / "model"),
            *("-i", tmp_path / "in.json", "-o", tmp_path / "out.json", "-t", "json", "--env-manager", "local"),
        ],
        check=True,
        capture_output=True,
        timeout=SECONDS,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        | {"MLFLOW_DISABLE_TELEMETRY": "true"},
    )
    found = json.loads((tmp_path / "out.json").read_text())["predictions"]
    expected = Classifier.load(packed / "model/artifacts" / NETWORK).predict(images)
    assert [row["label"] for row in found] == expected["label"].tolist()
    assert [row["set"] for row in found] == expected["set"].tolist()
    for row, wanted in zip(found, expected["probabilities"], strict=True):
        assert row["probabilities"] == pytest.approx(wanted, abs=1e-5)
