"""BatchNorm statistics of other images: the same weights, other means and variances (AdaBN, Li et al. 2016)."""

import copy
from collections.abc import Iterable

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from graft.backbones.backbone import Backbone
from graft.models.two_views import Norms, norms_of

NORM_BATCH = 32
"""Images whose statistics are estimated together."""


def estimate_norms(backbone: Backbone, batches: Iterable[torch.Tensor]) -> Norms:
    """Return the BatchNorm statistics of images, the mean over their batches; the backbone is not changed.

    Every layer sees what the layers before it make of the batch under the batch's own statistics, as in training.

    Args:
        backbone: of any weights.
        batches: normalised float32 (b, C, S, S), each of several images in an order that does not follow their classes.
    """
    network = copy.deepcopy(backbone).eval()
    for module in network.modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            module.reset_running_stats()
            module.momentum = None  # a plain mean over the batches
            module.train()
    network = network.to(memory_format=torch.channels_last)
    with torch.no_grad():
        for batch in batches:
            network(batch.contiguous(memory_format=torch.channels_last))
    return norms_of(network)
