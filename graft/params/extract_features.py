"""Parameters of the step `extract_features`."""

from typing import Literal

from pydantic import Field

from graft.params.quantities import BatchSize, Mean, Seed, Side, Std, Threads
from graft.params.section import Section


class ExtractFeaturesParams(Section):
    """The backbone, its weights and its input size."""

    backbone: str = Field(
        "tf_efficientnet_lite0", description="a torchvision or timm architecture by name; auto: the best of candidates"
    )
    candidates: tuple[str, ...] = Field(
        ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2"),
        description="what backbone=auto chooses from, by cross-validation: names, or name=weights",
    )
    prefer: Literal["accuracy", "balance", "cost"] = Field(
        "balance",
        description="what backbone=auto takes where cross-validation cannot tell: accuracy: the largest | cost: the "
        "cheapest | balance: the cheapest within one standard error",
    )
    weights: str = Field(
        "default",
        description="default | none | a torchvision enum name | a .safetensors / .pth file | a model of your own: its "
        "folder, or models:/name@alias",
    )
    image_size: Side | Literal["auto"] = Field(
        "auto", description="pixels; auto: the weights' own size, less for tiny images"
    )
    stem: Literal["inflate", "repeat", "average"] = Field(
        "inflate",
        description="if images do not have 3 channels: filters for each (inflate), or a fixed mixture of them",
    )
    mean: tuple[Mean, ...] | None = Field(None, description="input mean per channel; null: what the weights expect")
    std: tuple[Std, ...] | None = Field(None, description="input std per channel; null: what the weights expect")
    batch_size: BatchSize | Literal["auto"] = Field("auto", description="images per forward pass")
    workers: Threads | Literal["auto"] = Field("auto", description="threads; auto: one per core")
    backend: Literal["auto", "torch", "openvino", "onnxruntime"] = Field(
        "auto", description="what runs the backbone; auto: the fastest that is installed, checked against torch"
    )
    seed: Seed = Field(0, description="random initialisation when weights is none")
