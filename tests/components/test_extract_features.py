"""Step extract_features: right numbers, only new work, the same whatever the number of threads."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from components.extract_features.step import extract_features
from graft.backbones import incremental, runtimes
from graft.backbones.backbone import load_backbone
from graft.backbones.feature_store import FeatureStore
from graft.core.errors import DataError, ModelError
from graft.data.dataset import ImageDataset
from graft.params.extract_features import ExtractFeaturesParams
from graft.runs.run_log import SilentLog

ROOT = Path(__file__).resolve().parents[2]
QUICK = {"backbone": "tf_efficientnet_lite0", "weights": "none", "image_size": 32, "backend": "torch"}


def _picture(number: int, height: int = 40, width: int = 48) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def run(tmp_path: Path, image_dataset: Callable[..., Path]) -> Callable[..., tuple[FeatureStore, dict[str, object]]]:
    def call(contents: list[bytes], name: str = "features", **params: object):
        dataset = image_dataset(contents, f"dataset-{name}")
        section = ExtractFeaturesParams.model_validate({**QUICK, **params})
        metrics = extract_features(dataset, tmp_path / name, section, SilentLog())
        return FeatureStore.read(tmp_path / name), dict(metrics)

    return call


def test_features_are_the_backbones_own_pooled_activations(run) -> None:
    contents = [_picture(number) for number in range(7)]
    store, metrics = run(contents)
    backbone = load_backbone(store.backbone_folder)
    transform = backbone.spec.transform
    with torch.inference_mode():
        batch = transform.normalise(torch.stack([transform.pixels(content) for content in contents]))
        expected = backbone.taps(batch)
    assert store.taps == backbone.spec.groups
    for name, features in zip(store.taps, expected, strict=True):
        found = store.tap(name)
        assert found.dtype == np.float32
        assert isinstance(found, np.memmap)
        np.testing.assert_allclose(found, features.numpy(), rtol=1e-3, atol=1e-4 * float(features.std()) + 1e-7)
    assert metrics["taps"] == dict(zip(backbone.spec.groups, backbone.spec.widths, strict=True))
    assert (metrics["images"], metrics["image_size"], metrics["weights"]) == (7, 32, "none")
    assert list(store.targets()) == [0, 1, 0, 1, 0, 1, 0]
    assert list(store.indices("val")) == [4, 5]
    assert store.classes == ("ant", "bee")


def test_identical_whatever_the_number_of_workers(run, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [_picture(number) for number in range(21)]
    monkeypatch.setenv("GRAFT_CACHE", "off")
    stores = [run(contents, f"features-{n}", workers=n, batch_size=4)[0] for n in (1, 2, 5)]
    for name in stores[0].taps:
        for other in stores[1:]:
            assert np.array_equal(stores[0].tap(name), other.tap(name))


@pytest.mark.slow
def test_backends_share_nothing_and_agree(run) -> None:
    pytest.importorskip("openvino")
    contents = [_picture(number) for number in range(5)]
    first, _ = run(contents, "first")
    second, metrics = run(contents, "second", backend="openvino")
    assert (metrics["backend"], metrics["new_images"]) == ("openvino", 5)
    for name in first.taps:
        np.testing.assert_allclose(second.tap(name), first.tap(name), rtol=1e-3, atol=1e-4 * first.tap(name).std())


def test_a_backend_that_does_not_work_is_recorded_and_cached_as_the_one_that_ran(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no such device")

    pytest.importorskip("onnxruntime")
    contents = [_picture(number) for number in range(3)]
    with monkeypatch.context() as patch:
        patch.setitem(runtimes._STARTERS, "onnxruntime", broken)
        with pytest.warns(UserWarning, match="onnxruntime is not used .* torch is"):
            fallen, metrics = run(contents, "fallen", backend="onnxruntime")
    assert (metrics["backend"], metrics["new_images"]) == ("torch", 3)
    plain, metrics = run(contents, "plain", backend="torch")
    assert metrics["new_images"] == 0, "torch computed them, so torch finds them"
    for tap in plain.taps:
        assert np.array_equal(plain.tap(tap), fallen.tap(tap))
    _, metrics = run(contents, "mended", backend="onnxruntime")
    assert (metrics["backend"], metrics["new_images"]) == ("onnxruntime", 3), "it never ran before"


def test_leaves_torchs_threads_as_they_were(run) -> None:
    before = torch.get_num_threads()
    run([_picture(0)])
    assert torch.get_num_threads() == before


def test_only_new_images_are_run(run) -> None:
    first, metrics = run([_picture(number) for number in range(6)], "first")
    assert metrics["new_images"] == 6
    # other images, another order, an exact duplicate
    numbers = [7, 3, 0, 7, 8, 5]
    second, metrics = run([_picture(number) for number in numbers], "second")
    assert metrics["new_images"] == 2
    for name in first.taps:
        assert np.array_equal(second.tap(name)[[1, 2, 5]], first.tap(name)[[3, 0, 5]])
        assert np.array_equal(second.tap(name)[0], second.tap(name)[3])
        assert not np.array_equal(second.tap(name)[0], second.tap(name)[4])
    _, metrics = run([_picture(number) for number in numbers], "third")
    assert metrics["new_images"] == 0
    assert metrics["images_per_second"] == 0.0


def test_the_output_layer_of_the_weights_is_kept_with_the_features(run) -> None:
    first, _ = run([_picture(0), _picture(1)], "first", weights="default")
    again, metrics = run([_picture(0), _picture(1)], "again", weights="default")
    assert metrics["new_images"] == 0
    assert first.source().names == again.source().names
    assert again.source().labels[309:311] == ("bee", "ant")
    assert again.source().weight.shape == (1000, again.tap(again.taps[-1]).shape[1])
    with pytest.raises(ModelError, match="random weights know no labels"):
        run([_picture(0), _picture(1)], "random")[0].source()


@pytest.mark.parametrize("change", [{"seed": 1}, {"image_size": 64}, {"mean": (0.5, 0.5, 0.5)}])
def test_another_backbone_or_transform_shares_nothing(run, change: dict[str, object]) -> None:
    contents = [_picture(0), _picture(1)]
    run(contents, "first")
    assert run(contents, "second", **change)[1]["new_images"] == 2


def test_what_was_done_before_a_failure_is_kept(run, monkeypatch: pytest.MonkeyPatch) -> None:
    good = [_picture(number) for number in range(8)]
    with pytest.raises(DataError, match=r"^8\.png: the file is cut short"):
        run([*good, _picture(9)[:200]], "first", workers=1, batch_size=4)
    assert run(good, "second")[1]["new_images"] == 0


def test_a_cache_that_cannot_be_written_is_no_obstacle(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match="no cache, every run computes everything again"):
        store, _ = run([_picture(0), _picture(1)])
    assert len(store) == 2


def test_features_that_are_not_finite_are_refused(run, tmp_path: Path) -> None:
    tensors = torchvision.models.resnet18().state_dict()
    tensors["conv1.weight"][:] = float("nan")
    torch.save(tensors, tmp_path / "broken.pth")
    with pytest.raises(ModelError, match=r"^0\.png: the backbone's features are not finite"):
        run([_picture(0)], backbone="resnet18", weights=str(tmp_path / "broken.pth"))


def test_batch_size_is_measured_once(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incremental, "_TUNING_PAYS", 16)
    from graft.backbones import extraction

    measured: list[int] = []
    original = extraction.fastest_batch_size
    monkeypatch.setattr(extraction, "fastest_batch_size", lambda *a: measured.append(original(*a)) or measured[-1])
    run([_picture(number) for number in range(16)], "first")
    run([_picture(number) for number in range(20, 40)], "second")
    assert len(measured) == 1
    assert measured[0] in extraction.CANDIDATE_BATCHES


def test_auto_size_never_exceeds_the_weights_own(run) -> None:
    assert run([_picture(0, 40, 48)], image_size="auto")[1]["image_size"] == 96


def test_a_rerun_imports_no_torch(run, tmp_path: Path) -> None:
    contents = [_picture(number) for number in range(3)]
    first, _ = run(contents, "first")
    code = (
        "import sys, pathlib; from components.extract_features.step import extract_features;"
        "from graft.runs.run_log import SilentLog; from graft.params.extract_features import ExtractFeaturesParams;"
        f"base = pathlib.Path({str(tmp_path)!r}); extract_features(base / 'dataset-first', base / 'again',"
        f" ExtractFeaturesParams(**{QUICK!r}), SilentLog());"
        "print(sorted({'torch', 'timm', 'mlflow', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    again = FeatureStore.read(tmp_path / "again")
    assert all(np.array_equal(first.tap(name), again.tap(name)) for name in first.taps)
    assert ImageDataset.read(tmp_path / "dataset-first").spec.digest == again.spec.dataset_digest
