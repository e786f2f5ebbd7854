"""What a number in a parameter may be: its lowest and highest value, and its unit."""

from typing import Annotated

from pydantic import Field

MOST_IMAGES_AT_ONCE = 4096
"""Images in one forward pass."""
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Penalty = Annotated[float, Field(gt=0.0, le=1e9)]
Rate = Annotated[float, Field(gt=0.0, le=100.0)]
Threads = Annotated[int, Field(ge=1, le=1024)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
"""What both NumPy and torch take."""
Mean = Annotated[float, Field(ge=-1e3, le=1e3)]
Std = Annotated[float, Field(gt=0.0, le=1e3)]
BatchSize = Annotated[int, Field(ge=1, le=MOST_IMAGES_AT_ONCE)]
Side = Annotated[int, Field(ge=1, le=4096)]
"""Pixels."""
MaskValue = Annotated[int, Field(ge=0, le=65535)]
PixelValue = Annotated[float, Field(ge=-1e38, le=1e38)]
"""What a 32-bit float holds."""
_COST = r"\d{1,9}(\.\d{0,9})?"
THRESHOLD_GOAL = rf"^(max_f1|(precision|recall)>=(0?\.\d+|1(\.0*)?)|cost={_COST}:{_COST})$"
"""The forms of a goal, see `stats.threshold_selection`."""
