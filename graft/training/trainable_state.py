"""The tensors of a classifier that a stage changes: copied, named, loaded, compared."""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from graft.models.classifier import Classifier

Tensors = dict[str, torch.Tensor]


def copied(classifier: Classifier, trained: Sequence[str], device: torch.device | None = None) -> Classifier:
    """Return a copy with its own head and `trained` groups; the other groups, which do not change, are shared.

    If `device` is not the classifier's, nothing is shared.
    """
    if device and device != next(classifier.parameters()).device:
        return copy.deepcopy(classifier).to(device)
    pairs = zip(classifier.backbone.spec.groups, classifier.backbone.groups, strict=True)
    shared = {id(group): group for name, group in pairs if name not in trained}
    return copy.deepcopy(classifier, dict(shared))


def trainable_tensors(classifier: Classifier, trained: Sequence[str]) -> Tensors:
    """Return the tensors of the head and the `trained` groups by name; changing them changes the classifier."""
    parts = dict(zip(classifier.backbone.spec.groups, classifier.backbone.groups, strict=True))
    modules = {"head": classifier.head, **{name: parts[name] for name in trained}}
    return {f"{part}:{name}": t for part, module in modules.items() for name, t in module.state_dict().items()}


def load_tensors(classifier: Classifier, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write the tensors that `trainable_tensors` returned into a classifier."""
    trained = sorted({name.partition(":")[0] for name in tensors} - {"head"})
    own = trainable_tensors(classifier, trained)
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


def changed_groups(groups: Sequence[str], before: Classifier, after: Classifier) -> tuple[str, ...]:
    """Return the groups whose weights differ between `before` and `after`."""
    pairs = zip(groups, before.backbone.groups, after.backbone.groups, strict=True)
    return tuple(name for name, a, b in pairs if not _equal(a, b))


def _equal(first: nn.Module, second: nn.Module) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return all(torch.equal(a[name], b[name]) for name in a)
