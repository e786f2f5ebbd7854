"""The cost of a backbone, counted rather than timed: the same on every machine and in every run."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from graft.backbones.backbone import Backbone


def count_operations(backbone: Backbone) -> list[int]:
    """Return the floating-point operations of every group for one image (a multiply-add counts two)."""
    x = torch.zeros(1, *backbone.spec.transform.shape)
    counted = []
    with torch.inference_mode():
        for group in backbone.groups:
            with FlopCounterMode(display=False) as counter:
                x = group(x)
            counted.append(int(counter.get_total_flops()))
    return counted
