"""How folder trees of real archives are read: which level is the class, and what is refused."""

import re
import string
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graft.core.errors import DataError
from graft.data.clutter import is_clutter
from graft.data.listing import list_images
from graft.data.readings import Layout

SHARED = ("dog", "cat", "horse")


def made(root: Path, *folders: str, images: int = 6) -> Path:
    """Write `images` files with the names of images into each folder."""
    for number, folder in enumerate(folders):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for image in range(images):
            (root / folder / f"{number}-{image}.jpg").write_bytes(b"")
    return root


def crossed(*outer: str, inner: tuple[str, ...] = SHARED, between: str = "") -> list[str]:
    return [f"{one}/{between}{other}" for one in outer for other in inner]


def read(root: Path, layout: Layout = "auto", label_level: int | None = None) -> tuple[set[str], set[str | None]]:
    listing = list_images(root, layout, label_level)
    assert not listing.problems
    return {record.label for record in listing.records}, {record.split for record in listing.records}


PLAIN: Mapping[str, list[str]] = {
    "class folders": list(SHARED),
    "a wrapper": crossed("photos"),
    "two wrappers": crossed("archive/photos"),
    "folders inside class folders, beside images": [*SHARED, "dog/puppies"],
    "a folder inside each class folder": [f"{label}/images" for label in SHARED],
    "numbered parts inside class folders": crossed(*SHARED, inner=("1", "2", "03")),
    "classes with words of splits in their names": ["train_station", "test_tube", "val_d_isere"],
    "a train among the vehicles": ["train", "plane", "boat"],
    "a train with subfolders among the vehicles": ["train/steam", "train/electric", "train", "plane", "boat"],
}


@pytest.mark.parametrize("name", PLAIN)
def test_trees_without_splits(tmp_path: Path, name: str) -> None:
    expected = {"train_station", "test_tube", "val_d_isere"} if "words" in name else set(SHARED)
    if "vehicles" in name:
        expected = {"train", "plane", "boat"}
    assert read(made(tmp_path, *PLAIN[name])) == (expected, {None})


SPLIT: Mapping[str, tuple[str, list[str]]] = {
    "Kaggle's repeated wrapper": ("", ["training_set/training_set", "test_set/test_set"]),
    "train, dev and eval": ("", ["train", "dev", "eval"]),
    "one wrapper for each split": ("", ["seg_train/seg_train", "seg_test/seg_test"]),
    "a wrapper for one split only": ("", ["train/images", "test"]),
    "capitals": ("", ["Train", "TEST"]),
    "a common prefix": ("", ["birds_train", "birds_val", "birds_test"]),
    "years": ("", ["train2017", "val2017"]),
    "wrappers above": ("archive/data/", ["train", "valid", "test"]),
    "one word": ("", ["trainset", "testset"]),
    "spaces": ("", ["Training Images", "Test Images"]),
}


@pytest.mark.parametrize("name", SPLIT)
def test_trees_with_splits(tmp_path: Path, name: str) -> None:
    above, splits = SPLIT[name]
    labels, found = read(made(tmp_path, *crossed(*(f"{above}{split}" for split in splits))))
    assert labels == set(SHARED)
    assert found == ({"train", "val", "test"} if len(splits) == 3 else {"train", "test"})


def test_a_split_with_one_class_in_repeated_wrappers(tmp_path: Path) -> None:
    made(tmp_path, "train/train/normal", "train/train/broken", "test/test/normal")
    assert read(tmp_path) == ({"normal", "broken"}, {"train", "test"})


def test_splits_inside_class_folders(tmp_path: Path) -> None:
    made(tmp_path, *crossed(*SHARED, inner=("train", "test")))
    assert read(tmp_path) == (set(SHARED), {"train", "test"})
    assert "train/ are splits" in list_images(tmp_path).reading


def test_known_domains_on_either_side_of_the_classes(tmp_path: Path) -> None:
    outside = list_images(made(tmp_path / "a", *crossed("photo", "sketch", "art_painting")))
    inside = list_images(made(tmp_path / "b", *crossed(*SHARED, inner=("photo", "sketch", "art_painting"))))
    split = list_images(made(tmp_path / "c", *crossed("train/photo", "train/sketch", "test/photo", "test/sketch")))
    for listing in (outside, inside, split):
        assert {record.label for record in listing.records} == set(SHARED)
        assert {"photo", "sketch"} <= {record.domain for record in listing.records}
        assert listing.layout == "domain folders"
    assert {record.split for record in split.records} == {"train", "test"}


def test_domains_inside_splits_or_splits_inside_domains(tmp_path: Path) -> None:
    made(tmp_path, *crossed("photo", "sketch", between="train/"), *crossed("photo", "sketch", between="test/"))
    listing = list_images(tmp_path)
    assert {(record.label, record.split, record.domain) for record in listing.records} == {
        (label, split, domain) for label in SHARED for split in ("train", "test") for domain in ("photo", "sketch")
    }


AMBIGUOUS: Mapping[str, tuple[list[str], int]] = {
    "crossed levels of unknown names": (crossed("north", "south"), 3),
    "nested classes": (["animal/dog", "animal/cat", "plant/rose", "plant/tulip"], 2),
    "nested classes in splits": (
        [f"{split}/{one}" for split in ("train", "test") for one in ("animal/dog", "animal/cat", "plant/rose")],
        2,
    ),
    "one split beside others": (crossed("train", "more"), 3),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_trees_that_can_be_read_in_several_ways(tmp_path: Path, name: str) -> None:
    """The message gives the parameters for each reading, and each of them works and reads every image."""
    folders, ways = AMBIGUOUS[name]
    made(tmp_path, *folders)
    with pytest.raises(DataError, match=f"can be read in {ways} ways") as refused:
        list_images(tmp_path)
    text = str(refused.value)
    assert "\n" not in text
    choices = re.findall(r"validate_data\.layout=(\w+) validate_data\.label_level=(\d)", text)
    assert len(choices) == ways
    readings = set()
    for layout, level in choices:
        listing = list_images(tmp_path, layout, int(level))
        assert not listing.problems
        assert len(listing.records) == 6 * len(folders)
        readings.add(frozenset((r.path, r.label, r.split, r.domain) for r in listing.records))
    assert len(readings) == ways


REFUSED: Mapping[str, tuple[list[str], str]] = {
    "splits that hold images": (["train", "test"], "hold images and no class folders"),
    "no training set": (crossed("val", "test"), "none is for training"),
    "two folders of one split": (crossed("train", "val", "valid"), "val/, valid/ each stand for the split val"),
    "classes with the names of splits": (crossed("train_1", "train_2"), "each stand for the split train"),
    "a second copy of the data inside": (["dog", "cat", "pets/dog", "pets/cat"], "a second copy of the data"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_trees_that_are_refused(tmp_path: Path, name: str) -> None:
    folders, message = REFUSED[name]
    made(tmp_path, *folders)
    with pytest.raises(DataError, match=message) as refused:
        list_images(tmp_path)
    if "validate_data.layout=classes" in str(refused.value):
        assert len(list_images(tmp_path, "classes").records) == 6 * len(folders)


def test_a_second_copy_inside_a_split_has_a_way_out(tmp_path: Path) -> None:
    made(tmp_path, "train/cat", "train/dog", "test/animals/cat", "test/animals/dog")
    with pytest.raises(DataError, match="animals/ holds folders with the names of those beside it") as refused:
        list_images(tmp_path)
    assert "validate_data.layout=splits validate_data.label_level=2" in str(refused.value)
    found = {(record.split, record.label) for record in list_images(tmp_path, "splits", 2).records}
    assert found == {("train", "cat"), ("train", "dog"), ("test", "animals")}


def test_images_that_no_reading_uses_are_problems(tmp_path: Path) -> None:
    made(tmp_path, *crossed("train", "test"), "unlabelled", "test", "train")
    listing = list_images(tmp_path)
    assert len(listing.records) == 36
    assert {problem.path.rpartition("/")[0] for problem in listing.problems} == {"unlabelled", "test", "train"}
    assert {problem.kind for problem in listing.problems} == {"left_out"}
    assert len(listing.problems) == 18


@pytest.mark.parametrize(
    ("layout", "level", "message"),
    [
        ("splits", None, "validate_data.layout=splits: no folders of .* are named train"),
        ("domains", None, "expected two levels of folders"),
        ("auto", 3, "validate_data.label_level=3: the folders of .* are 1 deep"),
        ("domains", 1, "has no level of several folders beside validate_data.label_level=1"),
    ],
)
def test_a_choice_that_the_tree_does_not_fit(tmp_path: Path, layout: Layout, level: int | None, message: str) -> None:
    made(tmp_path, *SHARED)
    with pytest.raises(DataError, match=message):
        list_images(tmp_path, layout, level)


def test_the_first_line_says_how_and_why(tmp_path: Path) -> None:
    made(tmp_path, *crossed("training_set/training_set", "test_set/test_set"), "@eaDir")
    assert list_images(tmp_path).reading == (
        f"{tmp_path}: read as split folders, 3 classes, splits training_set/, test_set/; folder level 3 is the class "
        "(test_set/, training_set/ only wrap other folders; test_set/, training_set/ are splits)"
    )


WORDS = st.sampled_from(["train", "TEST", "val", "dev", "photos", "cat", "dog", "1", "@eaDir", ".git", "photo", "café"])
NAMES = st.one_of(WORDS, st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=8))
FILES = st.sampled_from(["1.jpg", "2.PNG", "notes.txt", "x", "Thumbs.db", "a b.webp", "._1.jpg"])


@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(paths=st.lists(st.tuples(st.lists(NAMES, max_size=4), FILES), min_size=1, max_size=12))
def test_any_tree_is_read_whole_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, paths: list[tuple[list[str], str]]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    images = set()
    for folders, name in paths:
        if any(one in (".", "..") for one in folders):
            continue
        try:
            root.joinpath(*folders).mkdir(parents=True, exist_ok=True)
            root.joinpath(*folders, name).write_bytes(b"\xff\xd8\xff\xe0")
        except OSError:
            continue  # a file has the name of a folder
        if not any(is_clutter(one) for one in (*folders, name)):
            images.add(root.joinpath(*folders, name))
    try:
        listing = list_images(root)
    except DataError as error:
        assert len(str(error).splitlines()) == 1, error  # noqa: PT017
        assert set(str(error)) - set(string.whitespace)  # noqa: PT017
        return
    told = {record.path for record in listing.records} | {problem.path for problem in listing.problems}
    assert {path.relative_to(root.resolve()).as_posix() for path in images} <= told
    assert len(listing.reading.splitlines()) <= 1
