"""The cost of a backbone, counted rather than timed: the same on every machine and in every run."""

from weakref import WeakKeyDictionary

import torch
from torch.utils.flop_counter import FlopCounterMode

from graft.backbones.backbone import Backbone

_COUNTED: WeakKeyDictionary[Backbone, tuple[int, ...]] = WeakKeyDictionary()


def count_operations(backbone: Backbone) -> tuple[int, ...]:
    """Return the floating-point operations of every group for one image (a multiply-add counts two).

    They do not depend on the weights, and are counted once for each backbone.
    """
    if backbone not in _COUNTED:
        _COUNTED[backbone] = _count(backbone)
    return _COUNTED[backbone]


def _count(backbone: Backbone) -> tuple[int, ...]:
    x = torch.zeros(1, *backbone.spec.transform.shape)
    counted = []
    with torch.inference_mode():
        for group in backbone.groups:
            with FlopCounterMode(display=False) as counter:
                x = group(x)
            counted.append(int(counter.get_total_flops()))
    return tuple(counted)
