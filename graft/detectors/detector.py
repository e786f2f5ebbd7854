"""The network: Mask R-CNN (He et al., ICCV 2017) with a feature pyramid (Lin et al., CVPR 2017) on any backbone's maps.

Region proposals and heads are torchvision's, with predictors for the target's kinds of object.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from graft.backbones.backbone import Backbone
from graft.dense.network import DenseNetwork
from graft.detectors.photo_pixels import Fit

WIDTH, HIDDEN = 64, 256
"""Channels of the pyramid and the masks' head; units of the boxes' head. Small, for a CPU and few photos."""
COCO_WIDTH, COCO_HIDDEN, COCO_ANCHORS = 256, 1024, (32, 64, 128, 256, 512)
"""The same of torchvision's maskrcnn_resnet50_fpn, whose heads can be taken over, see `coco_start`."""
LEAST_ANCHOR = 24 / 256
"""Side of the smallest anchor, as a part of the photo's short side; the largest is as large as that side."""
SETTINGS: dict[str, Any] = {
    "rpn_pre_nms_top_n_train": 500,
    "rpn_pre_nms_top_n_test": 500,
    "rpn_post_nms_top_n_train": 200,
    "rpn_post_nms_top_n_test": 200,
    "rpn_batch_size_per_image": 128,
    "box_batch_size_per_image": 128,
    "box_detections_per_img": 100,
    "box_score_thresh": 0.05,
}
Maps = Sequence[torch.Tensor]


class Target(NamedTuple):
    """The objects of one photo at the network's size."""

    boxes: torch.Tensor
    """Left, top, right, bottom, float32 (n, 4)."""
    labels: torch.Tensor
    """int64 (n,), from 1 on: 0 is no object."""
    masks: torch.Tensor
    """uint8 (n, height, width)."""


@dataclass(frozen=True)
class Detections:
    """What is seen in one photo, at the network's size."""

    boxes: torch.Tensor
    """Left, top, right, bottom, float32 (n, 4)."""
    labels: torch.Tensor
    """Index of the kind of object, int64 (n,)."""
    scores: torch.Tensor
    """float32 (n,), descending."""
    masks: torch.Tensor
    """Probability of each cell of the box, float32 (n, 28, 28)."""


class Heads(nn.Module):
    """Everything above the backbone: maps of one photo to losses or detections."""

    def __init__(self, channels: Sequence[int], classes: int, short_side: int, *, coco: bool = False) -> None:
        super().__init__()
        width, hidden = (COCO_WIDTH, COCO_HIDDEN) if coco else (WIDTH, HIDDEN)
        self.channels = tuple(channels)
        self.mean: torch.Tensor
        self.scale: torch.Tensor
        self.register_buffer("mean", torch.zeros(sum(channels)))
        self.register_buffer("scale", torch.ones(sum(channels)))
        self.pyramid = FeaturePyramidNetwork(list(channels), width, extra_blocks=LastLevelMaxPool())
        names = [str(level) for level in range(len(channels))]
        sides = COCO_ANCHORS if coco else np.geomspace(LEAST_ANCHOR * short_side, short_side, len(channels) + 1)
        anchors = AnchorGenerator(tuple((round(side),) for side in sides), ((0.5, 1.0, 2.0),) * len(sides))
        box_pool, mask_pool = (MultiScaleRoIAlign(names, side, 2) for side in (7, 14))
        whole = MaskRCNN(
            _Nothing(width),
            rpn_anchor_generator=anchors,
            box_roi_pool=box_pool,
            box_head=TwoMLPHead(width * 7 * 7, hidden),
            box_predictor=FastRCNNPredictor(hidden, classes + 1),
            mask_roi_pool=mask_pool,
            mask_head=MaskRCNNHeads(width, [width] * 4, 1),
            mask_predictor=MaskRCNNPredictor(width, width, classes + 1),
            **SETTINGS,
        )
        self.rpn, self.roi_heads = whole.rpn, whole.roi_heads

    def standardise(self, mean: torch.Tensor, scale: torch.Tensor) -> None:
        """Set the mean and standard deviation of every channel of the maps, (sum of channels,)."""
        self.mean.copy_(mean)
        self.scale.copy_(scale.clamp(min=1e-3))

    def losses(self, maps: Maps, fit: Fit, target: Target) -> torch.Tensor:
        """Return the sum of the five losses of one photo."""
        features, images = self._features(maps, fit)
        truth = [{"boxes": target.boxes, "labels": target.labels, "masks": target.masks}]
        proposals, found = self.rpn(images, features, truth)
        _, more = self.roi_heads(features, proposals, images.image_sizes, truth)
        return torch.stack([*found.values(), *more.values()]).sum()

    def detect(self, maps: Maps, fit: Fit) -> Detections:
        """Return what is seen in one photo."""
        features, images = self._features(maps, fit)
        proposals, _ = self.rpn(images, features)
        (found,), _ = self.roi_heads(features, proposals, images.image_sizes)
        masks = found["masks"][:, 0] if len(found["masks"]) else torch.zeros(0, 28, 28)
        return Detections(found["boxes"], found["labels"] - 1, found["scores"], masks)

    def _features(self, maps: Maps, fit: Fit) -> tuple[dict[str, torch.Tensor], ImageList]:
        means, scales = (torch.split(part, list(self.channels)) for part in (self.mean, self.scale))
        named = OrderedDict(
            (str(level), (found - means[level].view(-1, 1, 1)) / scales[level].view(-1, 1, 1))
            for level, found in enumerate(maps)
        )
        # only the input's size is read of its pixels
        pixels = maps[0].new_zeros(()).expand(1, 1, *fit.padded)
        return self.pyramid(named), ImageList(pixels, [(fit.height, fit.width)])


class Detector(DenseNetwork):
    """Backbone and heads."""

    def __init__(self, backbone: Backbone, levels: tuple[str, ...], heads: Heads) -> None:
        super().__init__(backbone, levels)
        self.heads = heads

    @property
    def head(self) -> Heads:
        """The heads."""
        return self.heads

    def maps(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """Return the maps of padded uint8 pixels (B, C, H, W), the finest first."""
        maps: list[torch.Tensor] = self.trunk(self.backbone.spec.transform.normalise(pixels))
        return maps


class _Nothing(nn.Module):
    """A backbone in name only: torchvision's constructor wants one, and the maps come from ours."""

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels


def new_heads(channels: Sequence[int], classes: int, short_side: int, seed: int, *, coco: bool = False) -> Heads:
    """Return heads with random weights, drawn from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Heads(channels, classes, short_side, coco=coco)
