"""The output layer of a pretrained network, saved before it is removed, and the names of its outputs."""

from collections.abc import Sequence

import numpy as np
import timm.data
import torchvision
from torch import nn

from graft.backbones.pretrained_classifier import NoSource, SourceClassifier
from graft.backbones.weights import Architecture, WeightsSpec, classifier_name

Names = tuple[tuple[str, ...], ...]


def find_source_classifier(model: nn.Module, known: Architecture, weights: WeightsSpec) -> SourceClassifier | NoSource:
    """Return the output layer of a complete network with the names of its outputs, or why it cannot be used.

    Args:
        model: with its output layer; it is not changed.
        known: its architecture.
        weights: where its weights come from.
    """
    if weights.source == "none":
        return NoSource("extract_features.weights='none': random weights know no labels")
    name = classifier_name(model)
    layer = model.get_submodule(name) if name else None
    if not isinstance(layer, nn.Linear):
        return NoSource(
            f"extract_features.backbone={known.name!r}: its output layer is not a linear layer on the pooled features "
            "of the last group, so no head can start from it and none of its labels are known"
        )
    weight = layer.weight.detach().cpu().numpy().astype(np.float32)
    if not weight.any():
        return NoSource(f"extract_features.weights={weights.source!r}: they have no output layer for {known.name}")
    names = _names(model, known, weights.source, len(weight))
    if not names:
        return NoSource(
            f"extract_features.weights={weights.source!r}: the names of their {len(weight)} outputs are not known"
        )
    bias = np.zeros(len(weight), np.float32) if layer.bias is None else layer.bias.detach().cpu().numpy()
    return SourceClassifier(names, weight.copy(), bias.astype(np.float32).copy())


def _names(model: nn.Module, known: Architecture, source: str, outputs: int) -> Names:
    """Return the library's names for this number of outputs; a weights file is assumed to use the published names."""
    if known.library == "timm":
        return _timm_names(model, outputs)
    published = list(torchvision.models.get_model_weights(known.name))
    # First the weights themselves, if they are published, then any with the same number of outputs.
    published.sort(key=lambda weights: str(weights) != source)
    found: list[Sequence[str]] = [weights.meta.get("categories", ()) for weights in published]
    return next((tuple((name,) for name in names) for names in found if len(names) == outputs), ())


def _timm_names(model: nn.Module, outputs: int) -> Names:
    config = getattr(model, "pretrained_cfg", {}) or {}
    own = config.get("label_descriptions") or config.get("label_names") or ()
    if len(own) == outputs:
        described = [own[name] for name in config["label_names"]] if isinstance(own, dict) else own
        return tuple(tuple(str(text).split(", ")) for text in described)
    subset = timm.data.infer_imagenet_subset({"num_classes": outputs})
    if subset is None:
        return ()
    return tuple(tuple(text.split(", ")) for text in timm.data.ImageNetInfo(subset).label_descriptions())
