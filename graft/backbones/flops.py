"""What a backbone costs, counted rather than timed: the same on every machine and in every run."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from graft.backbones.backbone import Backbone


def operations(backbone: Backbone) -> list[int]:
    """Return the floating-point operations of every group for one image (two per multiplication and addition)."""
    x = torch.zeros(1, *backbone.spec.transform.shape)
    counted = []
    with torch.inference_mode():
        for group in backbone.groups:
            with FlopCounterMode(display=False) as counter:
                x = group(x)
            counted.append(int(counter.get_total_flops()))
    return counted
