"""Open Inference Protocol (V2) with MLServer and its MLflow runtime, as KServe runs it, in its own environment."""

import base64
import io
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from graft.serving.packaging import NETWORK
from graft.serving.server import Classifier
from tests.support.packed_model import pack_untrained
from tests.support.pictures import picture
from tests.support.v2_server import SECONDS, Served, ask, mlserver_environment, v2_serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    pack_untrained(folder)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mlserver_environment(tmp_path_factory.mktemp("mlserver"))


@pytest.fixture(scope="module")
def server(packed: Path, environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with v2_serving(environment, packed / "model", tmp_path_factory.mktemp("models")) as served:
        yield served


def png(number: int) -> bytes:
    content = io.BytesIO()
    picture(number % 3, number).save(content, "PNG")
    return content.getvalue()


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
