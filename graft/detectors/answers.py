"""From detections at the network's size to objects at the photo's own, each with its mask as a run-length code."""

import numpy as np
import torch
import torch.nn.functional as F

from graft.detectors.detector import Detections
from graft.detectors.photo_pixels import Fit
from graft.objects.instance import Instance
from graft.objects.run_length import RunLength, encode


def objects_of(found: Detections, fit: Fit) -> tuple[Instance, ...]:
    """Return the objects of a photo, the surest first; one whose mask has no pixel is left out."""
    down, across = fit.photo_height / fit.height, fit.photo_width / fit.width
    boxes = found.boxes * torch.tensor([across, down, across, down])
    limits = torch.tensor([fit.photo_width, fit.photo_height, fit.photo_width, fit.photo_height])
    boxes = boxes.clamp(min=0.0).minimum(limits.to(boxes.dtype))
    answers = []
    for box, label, score, mask in zip(boxes, found.labels, found.scores, found.masks, strict=True):
        code = _pasted(mask, box, fit.photo_height, fit.photo_width)
        if code is not None:
            left, top, right, bottom = box.tolist()
            answers.append(Instance(int(label), code, (left, top, right - left, bottom - top), float(score)))
    return tuple(answers)


def _pasted(mask: torch.Tensor, box: torch.Tensor, height: int, width: int) -> RunLength | None:
    """Return a mask of cells (28, 28) pasted into its box, as torchvision does; None if no pixel is left."""
    cells = mask.shape[-1]
    grown = (cells + 2) / cells  # one cell of nothing around it, so that edges are interpolated too
    middle, half = (box[2:] + box[:2]) / 2, (box[2:] - box[:2]) / 2 * grown
    left, top = (int(value) for value in (middle - half).tolist())
    right, bottom = (int(value) for value in (middle + half).tolist())
    size = max(bottom - top + 1, 1), max(right - left + 1, 1)
    whole = F.interpolate(F.pad(mask[None, None], (1, 1, 1, 1)), size=size, mode="bilinear", align_corners=False)[0, 0]
    first, last = max(left, 0), min(right + 1, width)
    upper, lower = max(top, 0), min(bottom + 1, height)
    if first >= last or upper >= lower:
        return None
    columns = np.zeros((height, last - first), dtype=np.bool_)
    columns[upper:lower] = whole[upper - top : lower - top, first - left : last - left].numpy() > 0.5
    return encode(columns, first, width) if columns.any() else None
