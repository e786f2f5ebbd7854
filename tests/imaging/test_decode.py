"""Decoding without the file's content looks for no damage in it."""

import io

from PIL import Image

from graft.imaging.decode import load, open_image


def test_a_png_that_ends_in_black_is_loaded_without_its_content() -> None:
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, "PNG")
    content = stream.getvalue()
    assert load(open_image(content)).size == (8, 8)
    assert load(open_image(content), content).size == (8, 8)
