"""DenseBundle: a model about pixels as one self-contained folder.

- `bundle.json`: classes, backbone, transform, how it was trained;
- `backbone.safetensors`: the kept groups of the backbone;
- a file of safetensors for the head.

No pickle: loading a bundle cannot run code.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, Literal, TypeVar

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from graft.backbones.backbone import Backbone, BackboneSpec, untrained_backbone
from graft.backbones.from_tensors import artifact_tensors, from_tensors
from graft.core.artifact import read_spec
from graft.core.atomic import replacing, write_json
from graft.core.errors import ModelError
from graft.dense.map_choice import MapScore
from graft.dense.network import DenseNetwork
from graft.imaging.transform import Transform
from graft.tasks.pixels import PixelTask

SPEC_FILE, BACKBONE_FILE = "bundle.json", "backbone.safetensors"


class Stage(BaseModel):
    """The result of one stage of fine-tuning, and whether it was kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    groups: tuple[str, ...]
    epochs: int
    gain: float
    error: float
    """Increase of the mean score of the validation photos and its standard error, over groups of photos."""
    train_loss: tuple[float, ...]
    kept: bool
    reason: str
    seconds: float


class DenseSpec(BaseModel):
    """What `bundle.json` holds of any model about pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    task: PixelTask
    labels: tuple[str, ...]
    backbone: BackboneSpec
    """Of the kept groups."""
    source_groups: tuple[str, ...]
    """All groups of the source network."""
    levels: tuple[str, ...]
    """Groups whose maps the head reads, the finest first."""
    channels: tuple[int, ...]
    """Channels of these maps."""
    dataset_digest: str
    epochs: int = 0
    seed: int = 0
    curve: tuple[MapScore, ...] = ()
    """What linear probes of single pixels tell of the maps."""
    stages: tuple[Stage, ...] = ()
    untried: str = ""
    trained_groups: tuple[str, ...] = ()


S = TypeVar("S", bound=DenseSpec)
N = TypeVar("N", bound=DenseNetwork)


@dataclass(frozen=True)
class DenseBundle(Generic[S, N]):
    """A model about pixels ready to predict."""

    spec: S
    network: N

    HEAD_FILE: ClassVar[str]

    def save(self, path: Path) -> None:
        """Write the bundle atomically."""
        parts = {BACKBONE_FILE: self.network.backbone.state_dict(), self.HEAD_FILE: self.network.head.state_dict()}
        with replacing(path) as folder:
            folder.mkdir(parents=True)
            write_json(folder / SPEC_FILE, self.spec.model_dump(mode="json"))
            for name, state in parts.items():
                tensors = {key: tensor.detach().contiguous() for key, tensor in state.items()}
                (folder / name).write_bytes(safetensors.torch.save(tensors))

    @property
    def transform(self) -> Transform:
        """The preprocessing of a photo."""
        return self.spec.backbone.transform


H = TypeVar("H", bound=nn.Module)


def read_bundle(
    path: Path,
    kind: type[S],
    content: str,
    head_file: str,
    head: Callable[[S, Mapping[str, torch.Tensor]], H],
) -> tuple[S, Backbone, H]:
    """Return what a bundle consists of.

    Args:
        path: its folder.
        kind: of its spec.
        content: what it is, for the error message.
        head_file: of the head's tensors.
        head: makes the head from them.

    Raises:
        ModelError: if the folder has none, or its files do not belong together.
    """
    spec = read_spec(path / SPEC_FILE, kind, content=content, step="train_head", error=ModelError)
    try:
        backbone = from_tensors(lambda: untrained_backbone(spec.backbone), artifact_tensors(path / BACKBONE_FILE))
        return spec, backbone, head(spec, artifact_tensors(path / head_file))
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{path}: the tensors do not belong to {SPEC_FILE} ({str(error)[:200]})") from error
