"""Corrections of answers are kept on disk: not without end."""

from pathlib import Path

import pytest

from graft.core.errors import DataError
from graft.web import corrections
from graft.web.corrections import Corrections
from tests.support.encoded import encoded
from tests.support.pictures import picture


def test_nobody_fills_the_disk_with_corrections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corrections, "MOST_IMAGES", 2)
    queue = Corrections(tmp_path, ("ant", "bee"))
    images = [encoded(picture(0, number), "PNG") for number in range(3)]
    for image in images[:2]:
        queue.add(image, "ant", "bee")
    with pytest.raises(DataError, match="2 corrected images wait there; relabel them first"):
        queue.add(images[2], "ant", "bee")
    queue.add(images[0], "ant", "ant")  # one that waits already can be corrected again
    assert len(list((tmp_path / "new" / "images").glob("*.png"))) == 2
