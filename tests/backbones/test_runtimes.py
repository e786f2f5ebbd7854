"""Every backend computes torch's features, or is not used."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from graft.backbones import runtime_choice, runtimes
from graft.backbones.backbone import Backbone, build_backbone
from graft.backbones.extraction import run_batches
from graft.backbones.input_channels import Stem
from graft.backbones.runtime_choice import choose_backend
from graft.backbones.runtimes import make_forward, start_boundary_runtime, start_runtime
from graft.core.errors import ParamsError

SIZE = 64


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return build_backbone("resnet18", "none", image_size=SIZE)


def _pixels(count: int, size: int = SIZE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


@pytest.fixture(params=["openvino", "onnxruntime"])
def backend(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return str(request.param)


def test_computes_what_torch_computes(backend: str, backbone: Backbone, tmp_path: Path) -> None:
    reference = make_forward(backbone)
    for _ in range(2):  # converted, then read from where it was kept
        forward, started = start_runtime(backbone, backend, workers=2, kept=tmp_path / "kept")  # type: ignore[arg-type]
        assert started == backend
        assert list((tmp_path / "kept").iterdir())
        for count in (1, 2, 5):
            expected, found = reference(_pixels(count)), forward(_pixels(count))
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.std()))


def test_a_smaller_batch_is_padded(backbone: Backbone) -> None:
    pytest.importorskip("openvino")
    run = start_boundary_runtime(backbone, "openvino", workers=1).run
    pixels = _pixels(5)
    whole, part = run(pixels), run(pixels[:3])
    assert [found.shape[0] for found in part] == [3, 3]
    for expected, found in zip(whole, part, strict=True):
        assert np.array_equal(found, expected[:3])
    assert sorted(run._compiled) == [1, 5]  # type: ignore[attr-defined]


def test_the_activation_comes_with_the_features(backend: str, backbone: Backbone) -> None:
    prefix = backbone.truncated("layer2")
    run, started = start_boundary_runtime(prefix, backend, workers=1)  # type: ignore[arg-type]
    assert started == backend
    pixels = _pixels(3)
    features, activation = run(pixels)
    with torch.no_grad():
        expected = prefix.suffix(prefix.spec.transform.normalise(pixels)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(features, make_forward(prefix)(pixels), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(activation, expected, rtol=1e-3, atol=1e-4 * float(expected.std()))


def test_many_threads_share_it(backend: str, backbone: Backbone) -> None:
    forward = make_forward(backbone, backend, workers=3)  # type: ignore[arg-type]
    pixels = _pixels(24)
    parts = run_batches(forward, lambda row: pixels[row], range(24), batch_size=4, workers=3)
    assert np.array_equal(np.concatenate([values for _, values in parts]), forward(pixels))


STOPPED = """
import gc, os, signal
from graft.backbones.backbone import build_backbone
from graft.backbones.runtimes import make_forward

forwards = [make_forward(build_backbone("resnet18", "none", image_size=48), "openvino") for _ in range(2)]
while forwards:
    forwards.pop(0)
    gc.collect()
caught = []
signal.signal(signal.SIGTERM, lambda number, frame: caught.append(number))
os.kill(os.getpid(), signal.SIGTERM)
raise SystemExit(caught != [signal.SIGTERM])
"""


@pytest.mark.slow
def test_a_process_that_used_openvino_can_be_stopped(root: Path) -> None:
    pytest.importorskip("openvino")
    done = subprocess.run([sys.executable, "-c", STOPPED], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("stem", ["inflate", "repeat"])
def test_other_channels_than_rgb(backend: str, stem: Stem) -> None:
    backbone = build_backbone("resnet18", "none", image_size=32, channels=5, stem=stem).truncated("layer1")
    pixels = torch.randint(0, 256, (3, 5, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    forward, started = start_runtime(backbone, backend)  # type: ignore[arg-type]
    assert started == backend
    expected = make_forward(backbone)(pixels)
    np.testing.assert_allclose(forward(pixels), expected, rtol=1e-3, atol=1e-4 * float(expected.std()))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["tf_efficientnet_lite0", "vit_tiny_patch16_224"])
def test_other_architectures(backend: str, architecture: str) -> None:
    backbone = build_backbone(architecture, "none")
    pixels = _pixels(2, backbone.spec.transform.size)
    expected = make_forward(backbone)(pixels)
    found = make_forward(backbone, backend)(pixels)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-3 * float(expected.std()))


def test_one_that_computes_something_else_is_not_used(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object) -> runtimes.Run:
        return lambda pixels: (make_forward(backbone)(pixels) * 1.1,)

    monkeypatch.setitem(runtimes._STARTERS, "openvino", wrong)
    with pytest.warns(UserWarning, match=r"^openvino is not used for resnet18, torch is: features after"):
        assert start_runtime(backbone, "openvino").backend == "torch"


def test_one_that_does_not_start_is_not_used(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> runtimes.Run:
        raise RuntimeError("unsupported\noperation")

    monkeypatch.setitem(runtimes._STARTERS, "onnxruntime", broken)
    with pytest.warns(UserWarning, match="torch is: RuntimeError: unsupported operation$"):
        make_forward(backbone, "onnxruntime")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_is_torch(backbone: Backbone) -> None:
    with pytest.warns(UserWarning, match="cuda is not used for .*: RuntimeError: no CUDA device"):
        make_forward(backbone, "cuda")


def test_auto_takes_the_fastest_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"openvino", "onnx", "onnxruntime"}
    monkeypatch.setattr(runtime_choice, "find_spec", lambda name: name if name in installed | {"torch"} else None)
    monkeypatch.setattr(runtime_choice, "_has_gpu", lambda: False)
    assert choose_backend("auto", 1e12) == "openvino"
    assert choose_backend("auto", 1e9) == "torch"  # done before another has started
    installed.remove("openvino")
    assert choose_backend("auto", 1e12) == "onnxruntime"
    installed.remove("onnx")
    assert choose_backend("auto", 1e12) == "torch"
    assert choose_backend("torch", 1e12) == "torch"
    with pytest.raises(
        ParamsError, match=r"backend='openvino': not installed; pip install 'graft-vision\[fast\]', or use auto$"
    ):
        choose_backend("openvino", 0)
    monkeypatch.setattr(runtime_choice, "_has_gpu", lambda: True)
    assert choose_backend("auto", 1e12) == choose_backend("torch", 1e12) == "cuda"
