"""Drift as a user meets it: a registered model, a folder of images, and what the command says of them."""

import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from graft.batch_prediction.drift_page import MAX_PICTURES
from graft.batch_prediction.monitoring import predict_and_compare
from graft.evaluation.held_out_table import read_predictions
from graft.runs.run_log import SilentLog
from tests.support.finished_run import FinishedRun
from tests.support.pictures import picture

LOG = SilentLog()


def png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def compared(uri: str, images: list[Image.Image], folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    (folder / "images").mkdir()
    for number, image in enumerate(images):
        (folder / "images" / f"{number}.png").write_bytes(png(image))
    return predict_and_compare("models:/insects@champion", folder / "images", folder / "out", LOG)


def test_the_evidence_holds_scores_of_held_out_images(finished_run: FinishedRun) -> None:
    table = read_predictions(finished_run.evaluation)
    assert table["ood"].notna().all()
    assert (table.loc[table["split"] == "val", "ood"] > 1).mean() <= 0.05


def test_images_like_the_held_out_ones_have_not_drifted(
    finished_run: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = compared(finished_run.store, [picture(n % 3, 5000 + n, 32) for n in range(120)], tmp_path, monkeypatch)
    assert not found["drifted"], found
    assert found["foreign"] < 0.1
    assert found["drift.features"] < 0.2


@pytest.mark.parametrize("kind", ["noise", "another domain"])
def test_noise_and_another_domain_have(
    kind: str, finished_run: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    images = {
        "noise": [Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(60)],
        "another domain": [ImageOps.invert(picture(n % 3, 5000 + n, 32)) for n in range(60)],
    }[kind]
    found = compared(finished_run.store, images, tmp_path, monkeypatch)
    assert found["drifted"], found
    assert found["drift.features"] > 0.5
    assert found["foreign"] > 0.2
    assert "features" in str(found["headline"])


def test_the_page_shows_what_is_least_like_the_training_images(
    finished_run: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    noise = [Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(3)]
    images = [picture(n % 3, 5000 + n, 32) for n in range(20)] + noise
    monkeypatch.chdir(tmp_path)
    compared(finished_run.store, images, Path(), monkeypatch)  # a relative folder, as a user types it
    table = pd.read_csv(tmp_path / "out" / "predictions.csv").sort_values("ood", ascending=False)
    page = (tmp_path / "out" / "drift.html").read_text()
    shown = re.findall(r'<span class="file">(\d+\.png)</span>', page)
    assert set(shown[:3]) == {"20.png", "21.png", "22.png"}
    assert shown == list(table.loc[table["ood"] > 1, "path"][:MAX_PICTURES])
    assert page.count('<img src="data:image/jpeg;base64,') == len(shown)
