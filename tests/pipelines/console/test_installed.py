"""The wheel in a fresh environment and a fresh folder: each extra brings what its commands need, and no more."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from components.wheel import build_wheel
from graft.imaging.formats import pillow_format
from tests.support.data_on_s3 import credentials, publish, s3_server
from tests.support.encoded import encoded, scene
from tests.support.finished_run import FinishedRun
from tests.support.installed import install
from tests.support.once import made_once
from tests.support.pictures import MakeImages

pytestmark = pytest.mark.slow
QUICK = (
    "extract_features.image_size=32 train_head.reuse_depth=last train_head.folds=2 "
    "fine_tune.enabled=false evaluate.bootstrap=100"
)
THREE_LINES = """
import graft
model = graft.load("outputs/model")
print(model.predict("one.png")["label"].tolist())
"""
FEATURES = """
import sys
from graft.backbones.backbone import build_backbone
from graft.backbones.runtime_choice import choose_backend
from graft.backbones.runtimes import start_runtime
from graft.core.errors import ParamsError
try:
    backend = choose_backend(sys.argv[1], 1e12)
except ParamsError as error:
    raise SystemExit(str(error))
print(start_runtime(build_backbone("resnet18", "none", image_size=64), backend).backend)
"""
FETCHED = """
import sys
from pathlib import Path
from graft.data.fetch import fetch
print(fetch("data/photos", Path("raw"), repo=sys.argv[1], rev="photos-1").files)
"""


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the working tree."""
    folder = made_once(tmp_path_factory, "wheel", lambda folder: build_wheel(folder, root))
    return next(folder.glob("*.whl"))


class Installed:
    """An environment with one extra, and an empty folder to work in."""

    def __init__(self, wheel: Path, extra: str, folder: Path) -> None:
        self.bin = install(wheel, extra, folder / "environment")
        self.packages = next((folder / "environment").glob("lib/*/site-packages"))
        self.folder = folder / "work"
        self.folder.mkdir()

    def run(self, *words: str, code: int = 0, **more: str) -> str:
        """Run a program with more variables of the environment; return what it printed, standard error first."""
        own = {"PATH": f"{self.bin}:/usr/bin:/bin"} | {name: os.environ[name] for name in KEPT if name in os.environ}
        own |= more
        done = subprocess.run(words, cwd=self.folder, env=own, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr[-3000:]
        return done.stderr + done.stdout


KEPT = ("HOME", "OMP_NUM_THREADS", "MLFLOW_DISABLE_TELEMETRY", "GX_ANALYTICS_ENABLED", "DVC_NO_ANALYTICS")


def test_a_run_and_a_prediction_in_a_fresh_folder(wheel: Path, tmp_path: Path, image_folder: MakeImages) -> None:
    graft = Installed(wheel, "run", tmp_path)
    image_folder({"cat": 16, "dog": 16}).rename(graft.folder / "photos")
    (graft.folder / "one.png").write_bytes((graft.folder / "photos/cat/0000.png").read_bytes())
    own = {path.name for path in graft.packages.iterdir() if not path.is_symlink()}
    assert {name for name in own if not name.endswith(".dist-info")} <= {"graft", "__pycache__"}

    told = graft.run("graft", "run", "photos", "--params", QUICK)
    assert "read as class folders, 2 classes" in told
    assert "a version of graft-photos in the registry" in told
    assert "[9/9] register_model: done in" in told
    assert "graft-photos version 1" in told
    summary = json.loads((graft.folder / "outputs/summary.json").read_text())
    assert summary["model"]["name"] == "graft-photos"

    answered = graft.run("graft", "predict", "one.png")
    assert "from the last run in this folder (results in outputs)" in answered
    assert answered.splitlines()[-1].split()[:2] == ["one.png", "cat"]
    assert graft.run("python", "-c", THREE_LINES).splitlines()[-1] == "['cat']"
    assert graft.run("graft", "report").strip() == f"{graft.folder}/outputs/report.html"

    # The same again, and going on after the end: nothing runs.
    assert "[9/9] register_model: nothing has changed" in graft.run("graft", "run", "photos", "--params", QUICK)
    assert "[9/9] register_model: nothing has changed" in graft.run("graft", "resume")
    assert "graft-photos" in graft.run("graft", "models")


def test_predicting_needs_torch_and_no_tracking(wheel: Path, tmp_path: Path, finished_run: FinishedRun) -> None:
    graft = Installed(wheel, "predict", tmp_path)
    for package in ("mlflow", "dvc", "great_expectations", "kfp", "sklearn"):
        assert not (graft.packages / package).exists()
    from graft.data.dataset import ImageDataset

    (graft.folder / "one.png").write_bytes(ImageDataset.read(finished_run.dataset).image(0))
    answered = graft.run("graft", "predict", "one.png", "--model", str(finished_run.model))
    assert answered.startswith("one.png  ")
    (graft.folder / "two").mkdir()
    (graft.folder / "one.png").rename(graft.folder / "two/one.png")
    assert "1 images; 0 could not be read" in graft.run("graft", "predict", "two", "--model", str(finished_run.model))
    missing = graft.run("graft", "models", "--name", "insects", code=1)
    assert missing.strip().startswith("this needs the package mlflow, which is not installed: pip install")


def test_the_data_extra_validates_without_torch(wheel: Path, tmp_path: Path, image_folder: MakeImages) -> None:
    graft = Installed(wheel, "data", tmp_path)
    assert not (graft.packages / "torch").exists()
    image_folder({"cat": 16, "dog": 16}).rename(graft.folder / "photos")
    assert "32 images of 2 classes" in graft.run("graft", "validate", "photos")
    assert (graft.folder / "outputs/data/data.html").is_file()


def test_the_pipeline_extra_compiles(wheel: Path, tmp_path: Path) -> None:
    graft = Installed(wheel, "pipeline", tmp_path)
    assert not (graft.packages / "torch").exists()
    graft.run("graft", "compile", "--profile", "k8s")
    assert "graft-training" in (graft.folder / "outputs/training.yaml").read_text()


def test_the_onnx_extra_exports(wheel: Path, tmp_path: Path, finished_run: FinishedRun) -> None:
    graft = Installed(wheel, "onnx", tmp_path)
    graft.run("graft", "export", "--model", str(finished_run.model))
    assert (graft.folder / "outputs/export/model.onnx").is_file()


def test_the_fast_extra_computes_features_two_other_ways(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    plain = Installed(wheel, "predict", tmp_path / "plain")
    missing = plain.run("python", "-c", FEATURES, "openvino", code=1)
    assert missing.strip().endswith("not installed; pip install 'graft-vision[fast]', or use auto")
    assert plain.run("python", "-c", FEATURES, "auto").splitlines()[-1] == "torch"

    fast = Installed(wheel, "predict,fast", tmp_path)
    assert fast.run("python", "-c", FEATURES, "auto").splitlines()[-1] == "openvino"
    assert fast.run("python", "-c", FEATURES, "onnxruntime").splitlines()[-1] == "onnxruntime"


def test_the_s3_extra_fetches_a_version_from_s3(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("moto.server")
    pytest.importorskip("dvc_s3")
    own = credentials(tmp_path / "none")
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "published").mkdir()
    with s3_server() as endpoint:
        published = publish(tmp_path / "published", endpoint)
        s3 = Installed(wheel, "data,s3", tmp_path)
        assert s3.run("python", "-c", FETCHED, published.url, **own).splitlines()[-1] == "3"
    fetched = sorted(path.relative_to(s3.folder / "raw") for path in (s3.folder / "raw").rglob("*.png"))
    assert fetched == sorted(path.relative_to(published.original) for path in published.original.rglob("*.png"))
    assert (s3.folder / "raw/cat/1.png").read_bytes() == (published.original / "cat/1.png").read_bytes()


def test_the_formats_extra_reads_heic_and_jpeg_xl(wheel: Path, tmp_path: Path) -> None:
    formats = Installed(wheel, "data,formats", tmp_path)
    for place, (label, name) in enumerate({"ant": "HEIF", "bee": "JXL"}.items()):
        if not pillow_format({"JXL": "JPEG XL"}.get(name, name)):
            pytest.skip(f"no decoder of {name} here")
        (formats.folder / "photos" / label).mkdir(parents=True)
        for number in range(6):
            content = encoded(scene(number + 10 * place), name)
            (formats.folder / "photos" / label / f"{number}.img").write_bytes(content)
    told = formats.run("graft", "validate", "photos")
    assert "12 images of 2 classes" in told
    assert "unsupported" not in told
