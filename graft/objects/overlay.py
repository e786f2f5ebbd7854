"""Photos with their objects drawn over them, each in a colour of its own, or the wrong ones marked."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from graft.masks.mask_file import resized
from graft.masks.overlay import COLOURS, STRENGTH
from graft.objects.instance import Instance

Pixels = npt.NDArray[np.uint8]


def with_objects(photo: Pixels, objects: Sequence[Instance], colours: Sequence[tuple[int, int, int]] = ()) -> Pixels:
    """Return a photo (h, w, 3), of any size, with objects and their boxes over it.

    Args:
        photo: the pixels.
        objects: at the photo's own size.
        colours: of the objects; empty: a different one for each.
    """
    shown = photo.astype(np.float64)
    height, width = photo.shape[:2]
    for at, one in enumerate(objects):
        shade = np.array(colours[at] if colours else COLOURS[1 + at % (len(COLOURS) - 1)], dtype=np.float64)
        mask = resized(one.code.mask().astype(np.uint8), height, width) > 0
        shown[mask] = shown[mask] * (1 - STRENGTH) + shade * STRENGTH
        across, down = width / one.code.width, height / one.code.height
        left, top = int(one.box[0] * across), int(one.box[1] * down)
        right = min(width - 1, int((one.box[0] + one.box[2]) * across))
        bottom = min(height - 1, int((one.box[1] + one.box[3]) * down))
        shown[top : bottom + 1, [left, right]] = shade
        shown[[top, bottom], left : right + 1] = shade
    return shown.astype(np.uint8)
