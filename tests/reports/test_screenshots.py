"""The pictures of the pages in the guides show the pages as they are."""

import json

import pytest
from PIL import Image

from tests.support.screenshots import PLACE, RECORD, SHOTS, digest


@pytest.mark.parametrize("name", SHOTS)
def test_a_picture_is_of_the_page_as_it_is(name: str) -> None:
    modules = "python -m tests.support.guide_runs FOLDER, then python -m tests.support.screenshots FOLDER"
    remedy = f"take it anew: {modules} {name}"
    assert json.loads(RECORD.read_text())[name] == digest(name), remedy
    with Image.open(PLACE / f"{name}.png") as picture:
        assert picture.size == SHOTS[name].size


@pytest.mark.parametrize("name", SHOTS)
def test_a_guide_shows_it(name: str) -> None:
    guides = [*PLACE.parent.glob("*.md"), PLACE.parents[1] / "README.md"]
    assert any(f"images/{name}.png" in guide.read_text("utf-8") for guide in guides)
