"""Thumbnails of the report: small, square, and without the file's metadata."""

import base64
import io

import numpy as np
from PIL import Image

from graft.evaluation.gallery import GalleryImage, data_uri, surest_mistakes, thumbnail
from tests.support.pictures import picture


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def test_a_thumbnail_is_the_centre_square() -> None:
    wide = np.zeros((40, 120, 3), dtype=np.uint8)
    wide[:, 40:80] = 255
    small = thumbnail(encoded(Image.fromarray(wide)), side=32)
    assert small.shape == (32, 32, 3)
    assert small[:, 4:-4].min() > 250


def test_metadata_is_removed() -> None:
    exif = Image.Exif()
    exif[0x010E] = "secret place"
    uri = data_uri(thumbnail(encoded(picture(0, 0, 200), "JPEG", exif=exif)))
    content = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    assert b"secret" not in content
    assert Image.open(io.BytesIO(content)).size == (168, 168)
    assert len(content) < 15_000


def test_the_most_confident_mistakes_come_first() -> None:
    confidence = np.array([0.9, 0.6, 0.7, 0.8])
    assert surest_mistakes(np.array([False, False, True, False]), confidence, 2).tolist() == [0, 3]
    assert surest_mistakes(np.array([True, True, True, True]), confidence, 2).tolist() == []


def test_right_and_wrong() -> None:
    assert GalleryImage("a", "ant", "ant", 0.9, "data:,").right
    assert not GalleryImage("a", "ant", "bee", 0.9, "data:,").right
