"""One object of a photo: its class, its mask, its box, and, of an answer, its score."""

from dataclasses import dataclass

from graft.objects.run_length import RunLength


@dataclass(frozen=True)
class Instance:
    """An object of the truth, or one of an answer."""

    label: int
    """Index into the kinds of object."""
    code: RunLength
    """Its mask at the photo's own size."""
    box: tuple[float, float, float, float]
    """Left, top, width and height in pixels, as COCO writes boxes."""
    score: float = 1.0
    crowd: bool = False
    """Whether it outlines many objects as one: answers inside count neither for nor against a model."""


def annotated(label: int, code: RunLength, *, crowd: bool = False) -> Instance:
    """Return an object of the truth; its box is the smallest one around its mask."""
    left, top, width, height = code.box
    return Instance(label, code, (float(left), float(top), float(width), float(height)), crowd=crowd)
