import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from graft.backbones.backbone import build_backbone
from graft.backbones.input_channels import Stem
from graft.core.errors import ModelError
from graft.heads.protocols import Kind
from graft.imaging.transform import Transform
from graft.models.classifier import Classifier, Head, HeadSpec
from graft.models.export import (
    OPSET,
    PARITY,
    PARITY_BATCHES,
    PixelNetwork,
    check_parity,
    export_onnx,
    export_program,
    pixel_network,
)
from graft.serving.server import load_program

TRANSFORM = Transform(size=12, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv2d(3, 6, 3, 2, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        self.body, self.head = nn.Sequential(*layers), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.body(x)
        return self.head(features), features


@pytest.fixture(scope="module")
def network() -> PixelNetwork:
    torch.manual_seed(0)
    return PixelNetwork(Network(), TRANSFORM).eval()


def test_the_program_answers_like_the_network_for_any_batch(network: PixelNetwork, tmp_path: Path) -> None:
    export_program(network, tmp_path / "model.pt2")
    program = load_program(tmp_path / "model.pt2")
    assert check_parity(network, program, TRANSFORM.shape, "torch.export") < 1e-6
    assert PARITY_BATCHES == (1, 2, 7, 64)


def test_pixels_are_normalised_inside(network: PixelNetwork) -> None:
    pixels = torch.full((1, 3, 12, 12), 128, dtype=torch.uint8)
    mean, std = (torch.tensor(values)[:, None, None] for values in (TRANSFORM.mean, TRANSFORM.std))
    with torch.no_grad():
        expected, _ = network.network((pixels / 255 - mean) / std)
        assert torch.allclose(network(pixels)[0], expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["linear", "mlp", "cosine"])
def test_every_kind_of_head_is_exported(kind: Kind, tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = build_backbone("mobilenet_v3_small", "none", image_size=32).truncated("features.1")
    width = backbone.spec.widths[-1]
    spec = HeadSpec(kind=kind, taps=("features.1",), features=width, hidden=8 if kind == "mlp" else 0)
    network = pixel_network(Classifier(backbone, Head(spec, 3)).eval())
    export_program(network, tmp_path / "model.pt2")
    assert check_parity(network, load_program(tmp_path / "model.pt2"), network.transform.shape, "torch.export") < PARITY
    pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
    export_onnx(network, ["a", "b", "c"], tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").is_file()


@pytest.mark.parametrize("taps", [("features.2",), ("features.1", "features.2")])
def test_a_classifier_is_exported_with_its_features_and_folded(taps: tuple[str, ...]) -> None:
    backbone = build_backbone("mobilenet_v3_small", "none", image_size=32)
    last = backbone.spec.groups[:3]
    backbone = backbone.truncated(last[-1])
    chosen = last[-len(taps) :]
    widths = dict(zip(backbone.spec.groups, backbone.spec.widths, strict=True))
    head = Head(HeadSpec(taps=chosen, features=sum(widths[name] for name in chosen)), 4)
    classifier = Classifier(backbone, head).eval()
    network = pixel_network(classifier)
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        logits, features = network(pixels)
        expected = classifier(backbone.spec.transform.normalise(pixels))
        assert torch.allclose(logits, expected, atol=1e-5)
        assert torch.allclose(head(features), expected, atol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("stem", ["inflate", "average"])
def test_a_classifier_of_other_channels_than_rgb(stem: Stem, tmp_path: Path) -> None:
    backbone = build_backbone("mobilenet_v3_small", "none", image_size=32, channels=5, stem=stem).truncated(
        "features.1"
    )
    head = Head(HeadSpec(taps=("features.1",), features=backbone.spec.widths[-1]), 2)
    classifier = Classifier(backbone, head).eval()
    network = pixel_network(classifier)
    export_program(network, tmp_path / "model.pt2")
    program = load_program(tmp_path / "model.pt2")
    assert check_parity(network, program, (5, 32, 32), "torch.export") < 1e-6
    pixels = torch.randint(0, 256, (3, 5, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        expected = classifier(backbone.spec.transform.normalise(pixels))
        torch.testing.assert_close(program(pixels)[0], expected, rtol=1e-4, atol=1e-5)


def test_onnx_answers_like_the_network_and_carries_its_labels(network: PixelNetwork, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    file = tmp_path / "model.onnx"
    export_onnx(network, ["ant", "bee"], file)
    session = runtime.InferenceSession(str(file))
    for batch in PARITY_BATCHES:
        pixels = np.random.default_rng(batch).integers(0, 256, (batch, 3, 12, 12), dtype=np.uint8)
        logits, features = session.run(["logits", "features"], {"pixels": pixels})
        with torch.no_grad():
            expected, expected_features = network(torch.from_numpy(pixels))
        assert np.abs(logits - expected.numpy()).max() < PARITY
        assert np.abs(features - expected_features.numpy()).max() < PARITY
    model = onnx.load(file)
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": OPSET}
    onnx.checker.check_model(model)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(properties["labels"]) == ["ant", "bee"]
    assert Transform.model_validate_json(properties["transform"]) == TRANSFORM
    assert str(Path(__file__).parents[2]).encode() not in file.read_bytes()


def test_without_onnx_the_error_names_the_remedy(
    network: PixelNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModelError, match=r"onnx is not installed; ONNX needs: pip install 'graft-vision\[onnx\]'"):
        export_onnx(network, ["ant", "bee"], tmp_path / "model.onnx")


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))
        return features, features


def test_a_network_that_cannot_be_traced_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be exported: ") as caught:
        export_program(PixelNetwork(Branching(), TRANSFORM), tmp_path / "model.pt2")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model.pt2").exists()


def test_an_export_that_differs_is_refused(network: PixelNetwork) -> None:
    def other(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits, features = network(pixels)
        return logits + 1, features

    with pytest.raises(ModelError, match=r"ONNX export differs from the network by .* \(at most 0\.0001\)"):
        check_parity(network, other, TRANSFORM.shape, "ONNX")
