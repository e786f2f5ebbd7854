"""The tensors of a classifier in the folder of its bundle: safetensors, so reading them cannot run code."""

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch

from graft.backbones.backbone import BackboneSpec, untrained_backbone
from graft.backbones.from_tensors import artifact_tensors, from_tensors
from graft.models.classifier import Classifier, Head, HeadSpec
from graft.models.two_views import TwoViews, norms_of, with_norms

BACKBONE_FILE, HEAD_FILE = "backbone.safetensors", "head.safetensors"
SECOND_NORMS_FILE, SECOND_HEAD_FILE = "second_norms.safetensors", "second_head.safetensors"


def read_classifier(
    folder: Path, backbone: BackboneSpec, head: HeadSpec, outputs: int, *, two_views: bool
) -> Classifier:
    """Read what `write_classifier` wrote.

    Raises:
        KeyError, RuntimeError, ValueError: if the tensors are not those of such a classifier.
        GraftError: if a file is missing or damaged.
    """
    first = from_tensors(lambda: untrained_backbone(backbone), artifact_tensors(folder / BACKBONE_FILE))
    classifier = Classifier(first, from_tensors(lambda: Head(head, outputs), artifact_tensors(folder / HEAD_FILE)))
    if not two_views:
        return classifier
    second = from_tensors(lambda: Head(head, outputs), artifact_tensors(folder / SECOND_HEAD_FILE))
    other = with_norms(first, artifact_tensors(folder / SECOND_NORMS_FILE))
    return TwoViews(classifier, Classifier(other, second))


def write_classifier(classifier: Classifier, folder: Path) -> None:
    """Write the backbone and the output layer; of two views, also the statistics and the output layer of the second."""
    states = {BACKBONE_FILE: classifier.backbone.state_dict()}
    if isinstance(classifier, TwoViews):
        states |= {
            HEAD_FILE: classifier.head.first.state_dict(),
            SECOND_HEAD_FILE: classifier.head.second.state_dict(),
            SECOND_NORMS_FILE: norms_of(classifier.second_backbone),
        }
    else:
        states[HEAD_FILE] = classifier.head.state_dict()
    for name, state in states.items():
        write_tensors(folder / name, state)


def write_tensors(file: Path, state: Mapping[str, torch.Tensor]) -> None:
    """Write tensors by name."""
    file.write_bytes(safetensors.torch.save({key: tensor.detach().contiguous() for key, tensor in state.items()}))
