"""Heads that have learnt COCO's objects, taken over from a file of torchvision's maskrcnn_resnet50_fpn.

`extract_features.backbone=resnet50 extract_features.weights=maskrcnn_resnet50_fpn_coco.pth` starts as the field's
best-known tutorial does: all weights are the detector's, but for the predictors of boxes' classes and of masks.
"""

from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch

from graft.backbones.from_tensors import artifact_tensors
from graft.backbones.weights import DETECTOR_BODY, read_tensors
from graft.core.errors import ModelError
from graft.dense.levels import Level
from graft.detectors.detector import Heads
from graft.params.extract_features import ExtractFeaturesParams

HEADS_FILE = "coco_heads.safetensors"
COCO_RATE = 1e-4
"""Learning rate of heads that have learnt before."""
PYRAMID = "backbone.fpn."
PREDICTORS = ("roi_heads.box_predictor.", "roi_heads.mask_predictor.mask_fcn_logits.")
FIRST_BOX_LAYER = "roi_heads.box_head.fc6.weight"
SUFFIXES = (".pth", ".pt", ".safetensors")


def keep_coco_heads(params: ExtractFeaturesParams, levels: Sequence[Level], folder: Path) -> None:
    """Write the heads of a detector into `folder`, if the weights are a file that holds one.

    Raises:
        ModelError: if they are not those of maskrcnn_resnet50_fpn.
    """
    file = Path(params.weights).expanduser()
    if file.suffix not in SUFFIXES:
        return
    tensors = read_tensors(file)
    if not any(name.startswith(DETECTOR_BODY) for name in tensors):
        return
    if FIRST_BOX_LAYER not in tensors or len(levels) != 4:
        raise ModelError(
            f"{file}: not the heads of maskrcnn_resnet50_fpn (its second version has others); use that file"
        )
    kept = {
        name.replace(PYRAMID, "pyramid."): tensor.contiguous()
        for name, tensor in tensors.items()
        if name.startswith((PYRAMID, "rpn.", "roi_heads.")) and not name.startswith(PREDICTORS)
    }
    safetensors.torch.save_file(kept, folder / HEADS_FILE)


def coco_heads(features: Path) -> dict[str, torch.Tensor] | None:
    """Return the tensors that `keep_coco_heads` wrote; None if there are none."""
    file = features / HEADS_FILE
    return artifact_tensors(file) if file.is_file() else None


def take_over(heads: Heads, tensors: dict[str, torch.Tensor]) -> None:
    """Write the tensors into heads of the same shape; the predictors stay new.

    Raises:
        ModelError: if they do not fit.
    """
    try:
        left = heads.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise ModelError(f"the detector's heads do not fit: {str(error).splitlines()[-1].strip()}") from error
    missing = [name for name in left.missing_keys if not name.startswith((*PREDICTORS, "mean", "scale"))]
    if missing or left.unexpected_keys:
        raise ModelError(f"the detector's heads do not fit: {(missing or left.unexpected_keys)[0]}")
