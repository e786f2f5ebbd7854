"""On an NVIDIA GPU, everything gives what the CPU gives, up to the tolerances stated here."""

from pathlib import Path

import numpy as np
import pytest
import torch

from graft.backbones.backbone import Backbone, build_backbone
from graft.backbones.extraction import run_batches
from graft.backbones.runtimes import make_forward, start_boundary_runtime, start_runtime
from graft.training.prediction import predict
from graft.training.trainer import train_epochs
from tests.support.tiny_training import SETTINGS, STAGE, labelled, untrained

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
SIZE = 64
HALF = 0.05
"""Largest difference of float16 from float32, in standard deviations."""


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return build_backbone("resnet18", "none", image_size=SIZE)


def _pixels(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)


def test_features(backbone: Backbone) -> None:
    forward, backend = start_runtime(backbone, "cuda")
    assert backend == "cuda"
    expected, found = make_forward(backbone)(_pixels(5)), forward(_pixels(5))
    assert np.abs(found - expected).max() < HALF * expected.std()


def test_features_of_many_batches_from_several_threads(backbone: Backbone) -> None:
    forward, pixels = make_forward(backbone, "cuda", workers=4), _pixels(64)
    parts = run_batches(forward, lambda row: pixels[row], range(64), batch_size=8, workers=4)
    expected = make_forward(backbone)(pixels)
    assert np.abs(np.concatenate([values for _, values in parts]) - expected).max() < HALF * expected.std()


def test_boundary_activations(backbone: Backbone) -> None:
    prefix = backbone.truncated("layer2")
    run, backend = start_boundary_runtime(prefix, "cuda", workers=1)
    assert backend == "cuda"
    reference, _ = start_boundary_runtime(prefix, "torch", workers=1)
    for found, expected in zip(run(_pixels(4)), reference(_pixels(4)), strict=True):
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < HALF * expected.std()


def test_a_stage_trains_as_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Float32 sums in another order: a few steps differ in the fifth digit, and a training in the second."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    images, start = labelled(64, 0), untrained()
    found = train_epochs(start, STAGE, images, SETTINGS, 2, lambda *_: None, None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    expected = train_epochs(start, STAGE, images, SETTINGS, 2, lambda *_: None, None)
    assert next(found.parameters()).device.type == "cpu"
    on_gpu, on_cpu = predict(found, images), predict(expected, images)
    assert np.abs(on_gpu - on_cpu).max() < 0.1 * on_cpu.std()
    assert (on_gpu.argmax(1) == on_cpu.argmax(1)).mean() > 0.95


def test_a_model_trained_there_is_exported(tmp_path: Path) -> None:
    trained = train_epochs(untrained(), STAGE, labelled(32, 0), SETTINGS, 1, lambda *_: None, None)
    program = torch.export.export(trained.eval(), (torch.zeros(2, 3, 32, 32),))
    torch.export.save(program, tmp_path / "model.pt2")
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = torch.export.load(tmp_path / "model.pt2").module()(x)
    assert torch.allclose(found, trained(x), atol=1e-4)
