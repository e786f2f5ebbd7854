import base64
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import requests
from typer.testing import CliRunner

from graft.data.dataset import ImageDataset
from graft.evaluation.held_out_table import read_predictions
from graft.serving.mlflow_model import image_contents
from graft.serving.packaging import NETWORK
from graft.serving.registry import Registry
from graft.serving.server import Classifier
from pipelines.cli import app
from tests.support.finished_run import FinishedRun
from tests.support.pictures import picture
from tests.support.served_model import serving


@pytest.fixture
def url(finished_run: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve the champion as `make serve` does."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", finished_run.store)
    log = tmp_path / "serve.log"
    with serving("insects", log) as address:
        assert f"serving insects version 1 at {address}" in log.read_text()
        yield address


@pytest.mark.slow
def test_over_http_as_in_the_pipeline(url: str, finished_run: FinishedRun) -> None:
    table = read_predictions(finished_run.evaluation)
    table = table[table["split"] == "test"].iloc[::3].reset_index(drop=True)
    dataset = ImageDataset.read(finished_run.dataset)
    rows_of = {identity: row for row, identity in enumerate(dataset.table["id"])}
    images = [dataset.image(rows_of[identity]) for identity in table["id"]]
    with Registry.open("insects").downloaded(Registry.open("insects").version(1)) as folder:
        expected = Classifier.load(folder / "artifacts" / NETWORK).predict(images)
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
    for got, row in zip(found, table.itertuples(), strict=True):
        assert got["label"] == row.predicted
        assert got["confidence"] == pytest.approx(row.probability, abs=1e-4)
        assert [got["probabilities"][label] for label in dataset.classes] == pytest.approx(row.probabilities, abs=1e-4)

    broken = [rows[0], {"image": rows[1]["image"][:400]}]
    for records, line in ((broken, "row 1: "), ([{"image": "?"}], "row 0: not valid base64"), ([{"x": 1}], "image")):
        answer = requests.post(url, json={"dataframe_records": records}, timeout=60)
        assert answer.status_code == 400
        assert line in answer.json()["message"]


@pytest.mark.slow
def test_mlflow_writes_a_dockerfile_of_a_packed_model(packed_model: Path, tmp_path: Path) -> None:
    """`mlflow models build-docker` builds this Dockerfile; the build needs Docker and a network, and is not tested."""
    out = tmp_path / "docker"
    command = [sys.executable, "-m", "mlflow", "models", "generate-dockerfile", "-m", str(packed_model), "-d", str(out)]
    offline = os.environ | {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(command, cwd=tmp_path, env=offline, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    dockerfile = (out / "Dockerfile").read_text()
    copied = re.search(r"^COPY (\S+) /opt/ml/model$", dockerfile, re.MULTILINE)
    assert copied
    running = f"FROM python:{sys.version_info.major}.{sys.version_info.minor}."
    assert any(line.startswith(running) for line in dockerfile.splitlines())
    model = out / copied[1]
    pins = (model / "requirements.txt").read_text().split()
    assert pins
    assert all("==" in pin for pin in pins)
    assert (model / "artifacts" / NETWORK / "serving.json").is_file()


def test_serving_without_a_champion_says_so(store: Path) -> None:
    done = CliRunner().invoke(app, ["serve", "--name", "insects"])
    assert done.exit_code == 1
    assert "model 'insects' has no champion; graft models lists the versions" in done.output


def test_contents_takes_any_kind_of_bytes() -> None:
    content = io.BytesIO()
    picture(0, 0).save(content, "PNG")
    raw = content.getvalue()
    values = [raw, bytearray(raw), memoryview(raw), base64.b64encode(raw).decode()]
    assert image_contents(pd.DataFrame({"image": values})) == [raw] * 4
