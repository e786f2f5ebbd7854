"""The heads of several tasks as one: the features that any of them reads, and the logits of all, from one pass."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from graft.backbones.backbone import BackboneSpec
from graft.models.classifier import Classifier, Head, HeadSpec
from graft.stats.feature_columns import Columns


def head_columns(backbone: BackboneSpec, specs: Sequence[HeadSpec]) -> tuple[HeadSpec, list[Columns]]:
    """Return the groups that any head reads, as a spec, and the columns of their features that each one reads."""
    read = {tap for spec in specs for tap in spec.taps}
    taps = tuple(name for name in backbone.groups if name in read)
    widths = [backbone.widths[backbone.index(tap)] for tap in taps]
    ends = np.cumsum(widths).tolist()
    place = {tap: (end - width, end) for tap, width, end in zip(taps, widths, ends, strict=True)}
    return HeadSpec(taps=taps, features=sum(widths)), [tuple(place[tap] for tap in spec.taps) for spec in specs]


class TaskHeads(nn.Module):
    """One head per task: all features (B, D) to the logits of all tasks side by side (B, sum of outputs)."""

    def __init__(self, spec: HeadSpec, heads: Sequence[Head], columns: Sequence[Columns]) -> None:
        super().__init__()
        self.spec = spec
        self.heads = nn.ModuleList(heads)
        self.columns = tuple(columns)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits (B, sum of outputs)."""
        return torch.cat(self.each(features), dim=1)

    def each(self, features: torch.Tensor) -> list[torch.Tensor]:
        """Return the logits of every task, (B, its outputs)."""
        return [head(self._read(features, columns)) for head, columns in zip(self.heads, self.columns, strict=True)]

    def _read(self, features: torch.Tensor, columns: Columns) -> torch.Tensor:
        parts = [features[:, start:end] for start, end in columns]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def with_all_heads(classifiers: Sequence[Classifier]) -> Classifier:
    """Return a classifier with the heads of several that share a backbone; of one, itself."""
    first = classifiers[0]
    if len(classifiers) == 1:
        return first
    heads = [classifier.head for classifier in classifiers]
    spec, columns = head_columns(first.backbone.spec, [head.spec for head in heads])
    return Classifier(first.backbone, TaskHeads(spec, heads, columns)).eval()
