"""The objects of a photo as the network learns them: boxes, labels and masks at its size, mirrored or not."""

from collections.abc import Sequence

import numpy as np
import torch

from graft.detectors.detector import Target
from graft.detectors.photo_pixels import Fit
from graft.masks.mask_file import resized
from graft.objects.instance import Instance


def target_of(objects: Sequence[Instance], fit: Fit, *, mirrored: bool = False) -> Target:
    """Return the target of one photo; crowds are left out, and so is what has no pixel at the network's size."""
    boxes, labels, masks = [], [], []
    for one in objects:
        if one.crowd:
            continue
        mask = resized(one.code.mask().astype(np.uint8), fit.height, fit.width)
        mask = mask[:, ::-1] if mirrored else mask
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(rows):
            continue
        boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        labels.append(one.label + 1)
        masks.append(mask)
    stacked = np.stack(masks) if masks else np.zeros((0, fit.height, fit.width), np.uint8)
    return Target(
        torch.tensor(np.array(boxes, dtype=np.float32).reshape(-1, 4)),
        torch.tensor(labels, dtype=torch.int64),
        torch.from_numpy(np.ascontiguousarray(stacked)),
    )
