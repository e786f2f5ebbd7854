"""From the bytes of a mask file to its values, one whole number for each pixel."""

import io
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from graft.core.errors import DataError
from graft.imaging.decode import MAX_PIXELS, ImageError, load, open_image

Values = npt.NDArray[np.int32]
Indices = npt.NDArray[np.uint8]
MaskFault = Literal["mask_lossy", "mask_colours", "mask_unreadable"]
_GREY = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")


class MaskError(DataError):
    """A mask that cannot be used; `kind` names the fault, the message is one clause."""

    def __init__(self, kind: MaskFault, message: str) -> None:
        super().__init__(message)
        self.kind: MaskFault = kind


class MaskFile(NamedTuple):
    """A mask as it is stored."""

    values: Values
    """Value of each pixel, int32 (height, width): the index into the palette, or the grey value as stored."""
    mode: str
    """Pillow's name of the pixel format."""


def read_mask(content: bytes, max_pixels: int = MAX_PIXELS) -> MaskFile:
    """Read a palette, grey or 16-bit mask. Colours of a palette do not matter: the value is the index.

    Raises:
        MaskError: if it cannot be read, is stored with loss (JPEG), or has colours in place of values.
    """
    try:
        image = open_image(content, max_pixels)
        if image.format in ("JPEG", "MPO"):
            raise MaskError("mask_lossy", "a JPEG, which changes the values of pixels")
        mode = image.mode
        values = np.asarray(load(image, content))
    except ImageError as error:
        raise MaskError("mask_unreadable", str(error)) from error
    if mode in ("RGB", "RGBA", "LA"):
        colours = values[..., :1] if mode == "LA" else values[..., :3]
        if (colours != colours[..., :1]).any():
            raise MaskError("mask_colours", "colours in place of class numbers")
        values = colours[..., 0]
    elif mode not in _GREY:
        raise MaskError("mask_colours", f"pixel format {mode} in place of class numbers")
    return MaskFile(values.astype(np.int32), mode)


def write_mask(values: npt.NDArray[np.integer]) -> bytes:
    """Return a PNG of class indices or object ids (height, width): 8 bits a pixel where they suffice, else 16."""
    wide = int(values.max(initial=0)) > 255
    stream = io.BytesIO()
    Image.fromarray(values.astype(np.uint16 if wide else np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def resized(values: npt.NDArray[np.uint8], height: int, width: int) -> Indices:
    """Return a mask at another size: each pixel takes the value of the nearest one, so that no class is made up."""
    if values.shape == (height, width):
        return values
    return np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.NEAREST))
