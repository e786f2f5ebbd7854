"""The inventory of many files is the same whether it is built at once or in parts."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from graft.params.validate_data import ValidateDataParams
from graft.quality import inventory_table
from graft.quality.inventory import take_inventory
from tests.support.encoded import encoded, png, scene
from tests.support.growth import growth


def folder_of(root: Path, count: int) -> Path:
    """Two classes of pictures, with some broken files, and one class of only broken files."""
    for number in range(count):
        place = root / ("ant", "bee")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        # Copies of the first picture, mirrored and re-encoded.
        content = encoded(scene(0 if number in (6, 9) else number, 48, 36), "JPEG", quality=70 + number % 9)
        (place / f"{number:03d}.jpg").write_bytes(content[:60] if number % 7 == 3 else content)
    (root / "cow").mkdir()
    for number in range(4):
        (root / "cow" / f"{number}.png").write_bytes(png(8, 8))
    (root / "ant" / "link.jpg").symlink_to("nowhere.jpg")
    return root


@pytest.mark.parametrize("at_once", [1, 3, 4, 25])
def test_parts_are_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    root = folder_of(tmp_path / "data", 24)
    whole = take_inventory(root, ValidateDataParams())
    assert whole.images["fault"].ne("").sum() >= 8
    assert len(whole.near) > 0
    monkeypatch.setattr(inventory_table, "_BLOCK_ROWS", at_once)
    parts = take_inventory(root, ValidateDataParams())
    pd.testing.assert_frame_equal(parts.images, whole.images)
    assert parts.files == whole.files
    np.testing.assert_array_equal(parts.near.first, whole.near.first)
    np.testing.assert_array_equal(parts.near.similarity, whole.near.similarity)


@pytest.mark.slow
def test_memory_per_image_is_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFT_CACHE", "off")
    monkeypatch.setattr(inventory_table, "_BLOCK_ROWS", 40)
    monkeypatch.setattr("graft.quality.image_statistics._AHEAD", 20)
    monkeypatch.setattr("graft.quality.near_duplicates._BLOCK_ROWS", 50)
    monkeypatch.setattr("graft.quality.perceptual_hashes._BLOCK", 1000)

    folders = {count: folder_of(tmp_path / str(count), count) for count in (100, 400)}
    # An image once took 23 kB: thumbnails in several poses, and each value as a Python object.
    assert growth(lambda count: lambda: take_inventory(folders[count], ValidateDataParams()), 100, 400) < 4000
