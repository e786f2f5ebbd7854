"""Photos and masks find each other by name, in folders of many names, or by a manifest."""

from pathlib import Path

import pytest

from graft.core.errors import DataError
from graft.data.fetch import fetch
from graft.masks.pairing import pair_masks
from tests.support.drawn_masks import write_pairs


def test_folders_pair_by_stem_and_say_what_is_alone(tmp_path: Path) -> None:
    write_pairs(tmp_path, 3, (24, 24))
    (tmp_path / "masks" / "001.png").unlink()
    (tmp_path / "images" / "002.png").unlink()
    found = pair_masks(tmp_path)
    assert [record.path for record in found.listing.records] == ["images/000.png", "images/001.png"]
    assert list(found.masks) == ["images/000.png"]
    assert found.without == ("images/001.png",)
    assert found.alone == ("masks/002.png",)


@pytest.mark.parametrize(("photos", "masks", "ending"), [("PNGImages", "PedMasks", "_mask"), ("imgs", "labels", "")])
def test_names_of_public_sets_are_known(tmp_path: Path, photos: str, masks: str, ending: str) -> None:
    write_pairs(tmp_path, 2, (24, 24))
    (tmp_path / "images").rename(tmp_path / photos)
    (tmp_path / "masks").rename(tmp_path / masks)
    for file in list((tmp_path / masks).iterdir()):
        file.rename(file.with_stem(file.stem + ending))
    assert len(pair_masks(tmp_path).masks) == 2


def test_splits_are_folders_above_or_below(tmp_path: Path) -> None:
    write_pairs(tmp_path / "train", 2, (24, 24))
    write_pairs(tmp_path / "test", 1, (24, 24), seed=1)
    found = pair_masks(tmp_path)
    assert [record.split for record in found.listing.records] == ["test", "train", "train"]
    assert len(found.masks) == 3


def test_a_manifest_names_masks_and_get_data_copies_them(tmp_path: Path) -> None:
    write_pairs(tmp_path / "in", 2, (24, 24))
    manifest = tmp_path / "in" / "list.csv"
    manifest.write_text(
        "path,mask,split,group\nimages/000.png,masks/000.png,train,a\nimages/001.png,masks/001.png,test,b\n"
    )
    fetch(str(manifest), tmp_path / "raw")
    found = pair_masks(tmp_path / "raw")
    assert [(r.path, r.split, r.group) for r in found.listing.records] == [
        ("images/000.png", "train", "a"),
        ("images/001.png", "test", "b"),
    ]
    assert len(found.masks) == 2


def test_class_folders_are_named_as_such(tmp_path: Path) -> None:
    write_pairs(tmp_path / "in", 2, (24, 24))
    (tmp_path / "in" / "images").rename(tmp_path / "in" / "ants")
    (tmp_path / "in" / "masks").rename(tmp_path / "in" / "bees")
    with pytest.raises(DataError, match=r"these are class folders \(ants, bees\)"):
        pair_masks(tmp_path / "in")
