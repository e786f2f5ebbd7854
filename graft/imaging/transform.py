"""Preprocessing of an image for the backbone: it belongs to the weights and is the same in training and serving."""

import math
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_validator

from graft.core.errors import DataError
from graft.imaging import jpeg, multichannel
from graft.imaging.decode import MAX_PIXELS, check_jpeg, check_size
from graft.imaging.value_range import ValueRange

# EXIF orientation -> (swap rows and columns first, then flip these dimensions of (C, H, W)).
_ORIENTATIONS: dict[int, tuple[bool, tuple[int, ...]]] = {
    2: (False, (2,)),
    3: (False, (1, 2)),
    4: (False, (1,)),
    5: (True, ()),
    6: (True, (2,)),
    7: (True, (1, 2)),
    8: (True, (1,)),
}


class Transform(BaseModel):
    """Decode, crop the centre square, resize, normalise.

    `crop_fraction` has the usual meaning: the shorter side is resized to `size / crop_fraction` and the centre square
    of `size` is kept. Here the square is cropped first, so that only the pixels that are kept are resized, in uint8.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: Annotated[int, Field(ge=1)]
    crop_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[Annotated[float, Field(gt=0.0)], ...] = (0.229, 0.224, 0.225)
    # Not in the repr, as before this field existed: fingerprints of RGB backbones stay the same.
    channels: Annotated[int, Field(ge=1, repr=False)] = 3
    """3 is RGB and 1 grey, converted from any picture; other numbers are bands as stored (`multichannel.decode`)."""

    max_pixels: Annotated[int, Field(ge=1, repr=False)] = MAX_PIXELS
    """An image with more pixels is refused: the limit of `validate_data`, in training and serving too."""
    value_range: Annotated[ValueRange | None, Field(repr=False)] = None
    """What is black and white in wide images: that of the training images, None if all of them had 8 bits."""

    @model_validator(mode="after")
    def _one_number_per_channel(self) -> "Transform":
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.channels):
                raise ValueError(f"{name}: {len(values)} numbers for {self.channels} channels, expected one for each")
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image's pixels: (channels, size, size)."""
        return (self.channels, self.size, self.size)

    def pixels(self, image: bytes | npt.NDArray[np.uint8]) -> torch.Tensor:
        """Return the input of the backbone, before normalisation.

        Args:
            image: a file's content, or uint8 (H, W, channels); RGB (H, W, 3) and grey (H, W) or (H, W, 1) are
                converted to each other.

        Returns:
            uint8 tensor (channels, size, size), contiguous.

        Raises:
            DataError: if it is not an image, has other channels, or is an array of another type or shape.
        """
        if isinstance(image, bytes):
            # Decoded at twice the size that is needed, so that the final resize is still antialiased.
            whole = decode(
                image, math.ceil(2 * self.size / self.crop_fraction), self.channels, self.max_pixels, self.value_range
            )
        else:
            whole = _from_array(image, self.channels)
        _, height, width = whole.shape
        side = max(1, round(min(height, width) * self.crop_fraction))
        top, left = (height - side) // 2, (width - side) // 2
        square = whole[:, top : top + side, left : left + side]
        if side != self.size:
            to = (self.size, self.size)
            square = F.interpolate(square[None], size=to, mode=self.interpolation, antialias=True)[0]
        return square.contiguous()

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return float32 `(pixels / 255 - mean) / std` for uint8 (..., channels, H, W), on the same device."""
        mean = torch.tensor(self.mean, device=pixels.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(-1, 1, 1)
        # One multiplication and one addition per pixel instead of two divisions and a subtraction.
        return pixels.to(torch.float32).mul_(1.0 / (255.0 * std)).sub_(mean / std)


def decode(
    content: bytes,
    shortest: int = 0,
    channels: int = 3,
    max_pixels: int = MAX_PIXELS,
    values: ValueRange | None = None,
) -> torch.Tensor:
    """Return uint8 (channels, H, W), upright, of an image file.

    Plain 8-bit JPEG is decoded directly by libjpeg-turbo; everything else (CMYK, other formats, broken files) goes
    through `multichannel.decode`. The two agree to the bit.

    Args:
        content: the file's bytes.
        shortest: if positive, a large JPEG may be decoded at half, a quarter or an eighth of its size, as long as its
            shorter side keeps at least this many pixels. Several times faster for photos of many megapixels.
        channels: 3 (RGB), 1 (grey), or the number of its bands.
        max_pixels: an image with more pixels is refused.
        values: what is black and white in wide images.

    Raises:
        DataError: if it is not an image that can be decoded, or has other channels.
    """
    if channels in multichannel.CONVERTIBLE and (found := jpeg.frame(content)) is not None:
        check_size(found.width, found.height, max_pixels)
        fast = found.orientation is not None and found.components in multichannel.CONVERTIBLE
        decoded = jpeg.decode(content, "RGB", shortest, shortest) if fast else None
        if decoded is not None:
            check_jpeg(decoded.warning, decoded.damaged)
            return _upright(_from_array(decoded.pixels, channels), found.orientation or 1)
    return _from_array(multichannel.decode(content, channels, max_pixels, values), channels)


def _from_array(array: npt.NDArray[np.uint8], channels: int) -> torch.Tensor:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or 0 in array.shape:
        raise DataError(f"image array of {array.dtype} {array.shape}: expected uint8 (height, width[, {channels}])")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.shape[2] == 1 and channels == 3:
        array = np.repeat(array, 3, axis=2)
    elif array.shape[2] == 3 and channels == 1:
        array = np.asarray(Image.fromarray(array).convert("L"))[:, :, None]
    if array.shape[2] != channels:
        expected = "3 (RGB) or 1 (grey)" if channels in multichannel.CONVERTIBLE else channels
        raise DataError(f"image array of {array.shape[2]} channels: expected {expected}")
    if not array.flags.writeable or not array.flags.c_contiguous:
        array = array.copy()
    return torch.from_numpy(array).permute(2, 0, 1)


def _upright(rgb: torch.Tensor, orientation: int) -> torch.Tensor:
    swap, flips = _ORIENTATIONS.get(orientation, (False, ()))
    if swap:
        rgb = rgb.transpose(1, 2)
    return torch.flip(rgb, flips) if flips else rgb
