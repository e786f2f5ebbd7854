import base64
import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import requests
from conftest import picture
from typer.testing import CliRunner

from graft.packing import NETWORK
from graft.registry import Registry
from graft.serving import Classifier, contents
from pipelines.models import app

START_SECONDS = 180


@pytest.fixture
def url(packed_model: Path, store: Path, root: Path) -> Iterator[str]:
    """Serve a champion as `make serve` does."""
    registry = Registry.open("insects")
    registry.promote(registry.register(packed_model, {}).number)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "pipelines.models", "serve", "--port", str(port), "--name", "insects"]
    log = store.parent / "serve.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=root, stdout=output, stderr=subprocess.STDOUT, env=os.environ, start_new_session=True
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
        assert f"serving insects version 1 at {address}/invocations" in log.read_text()
        yield f"{address}/invocations"
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


@pytest.mark.slow
def test_over_http_as_in_the_pipeline(url: str, packed_model: Path, shared: Path) -> None:
    files = sorted((shared / "data" / "hymenoptera" / "val").rglob("*.jpg"))[::40]
    images = [file.read_bytes() for file in files]
    expected = Classifier.load(packed_model / "artifacts" / NETWORK).predict(images)
    rows = [{"image": base64.b64encode(image).decode()} for image in images]
    answer = requests.post(url, json={"dataframe_records": rows}, timeout=60)
    assert answer.status_code == 200
    found = answer.json()["predictions"]
    assert len(found) == len(images) > 2
    for got, row in zip(found, expected.to_dict("records"), strict=True):
        assert got["label"] == row["label"]
        assert got["probabilities"] == pytest.approx(row["probabilities"], abs=1e-4)
        assert got["set"] == row["set"]
        assert got["abstain"] == row["abstain"]
        assert got["ood"] == pytest.approx(row["ood"], rel=1e-4)

    broken = [rows[0], {"image": rows[1]["image"][:400]}]
    for records, line in ((broken, "row 1: "), ([{"image": "?"}], "row 0: not valid base64"), ([{"x": 1}], "image")):
        answer = requests.post(url, json={"dataframe_records": records}, timeout=60)
        assert answer.status_code == 400
        assert line in answer.json()["message"]


def test_serving_without_a_champion_says_so(store: Path) -> None:
    done = CliRunner().invoke(app, ["serve", "--name", "insects"])
    assert done.exit_code == 1
    assert "model 'insects' has no champion; make models lists what there is" in done.output


def test_contents_takes_any_kind_of_bytes() -> None:
    content = io.BytesIO()
    picture(0, 0).save(content, "PNG")
    raw = content.getvalue()
    values = [raw, bytearray(raw), memoryview(raw), base64.b64encode(raw).decode()]
    assert contents(pd.DataFrame({"image": values})) == [raw] * 4
