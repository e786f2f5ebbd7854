"""Any tree, table and file names: they are read, or refused in one clear line; no image is left out silently."""

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graft.core.errors import GraftError
from graft.data.clutter import is_clutter
from graft.data.fetch import fetch
from graft.data.listing import list_images
from tests.support.encoded import encoded, scene

T = TypeVar("T")
IMAGE = encoded(scene(0, 4, 4), "PNG")
USUAL = (
    "train",
    "test",
    "val",
    "dev",
    "cat",
    "dog",
    "photo",
    "sketch",
    "images",
    "001",
    "data",
    "Train",
    "training_set",
)
ANY = st.text(min_size=1, max_size=8).filter(lambda text: text not in (".", "..") and not {*text} & {"/", "\0"})
NAMES = st.one_of(st.sampled_from(USUAL), ANY)
FILES = st.tuples(
    st.lists(NAMES, max_size=4),
    st.one_of(st.sampled_from(("1.png", "2.jpg", "noextension", "readme.txt", "x.heic")), ANY),
    st.sampled_from((IMAGE, IMAGE, IMAGE, b"text", b"")),
)
SETTINGS = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def attempt(call: Callable[[], T]) -> T | None:
    """Return what the call returns, or None if it refuses in one clear line."""
    try:
        return call()
    except GraftError as error:
        text = str(error)
    assert text.strip()
    assert len(text.splitlines()) == 1, text
    return None


def make(root: Path, files: list[tuple[list[str], str, bytes]]) -> set[str]:
    """Write the files that the file system takes; return the paths of those that are images by content."""
    images = set()
    for folders, name, content in files:
        path = Path(*folders, name)
        try:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            with (root / path).open("xb") as file:
                file.write(content)
        except (OSError, UnicodeError):  # a name that is too long, a surrogate, or a folder of that name
            continue
        if content == IMAGE:
            images.add(str(path))
    return images


@SETTINGS
@given(st.lists(FILES, min_size=1, max_size=14))
def test_every_image_of_any_tree_is_used_or_named(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[list[str], str, bytes]]
) -> None:
    root = tmp_path_factory.mktemp("tree") / "data"
    root.mkdir()
    images = make(root, files)
    found = attempt(lambda: list_images(root))
    if found is None:
        return
    used = {os.path.relpath(record.file, root) for record in found.records}
    named = len(found.records) + len(found.problems)
    clutter = {path for path in images if any(map(is_clutter, Path(path).parts))}
    assert len(images - used - clutter) <= len(found.problems)
    assert named >= len(images - clutter)
    assert not used & clutter
    for record in found.records:
        assert record.label


@SETTINGS
@given(st.lists(FILES, min_size=1, max_size=8))
def test_fetching_any_tree_keeps_or_names_every_image(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[list[str], str, bytes]]
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    (folder / "data").mkdir()
    images = {path for path in make(folder / "data", files) if not any(map(is_clutter, Path(path).parts))}
    source = attempt(lambda: fetch(str(folder / "data"), folder / "raw"))
    if source is None:
        return
    copied = {path for path in images if (folder / "raw" / path).read_bytes() == IMAGE} if images else set()
    assert len(images - copied) <= len(source.skipped)


@SETTINGS
@given(st.one_of(st.binary(max_size=80), st.text(alphabet='ab,;\t|"\n\r \u00e9', max_size=80).map(str.encode)))
def test_any_bytes_as_a_manifest_are_a_table_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("table")
    (folder / "manifest.csv").write_bytes(content)
    attempt(lambda: list_images(folder))
    attempt(lambda: fetch(str(folder / "manifest.csv"), folder / "raw"))


@SETTINGS
@given(st.dictionaries(ANY, st.sampled_from(("ant", "bee", "007", "NA")), min_size=1, max_size=8))
def test_a_manifest_of_any_file_names_lists_each(
    tmp_path_factory: pytest.TempPathFactory, named: dict[str, str]
) -> None:
    root = tmp_path_factory.mktemp("manifest")
    (root / "images").mkdir()
    written = make(root, [(["images"], name, IMAGE) for name in named])
    with (root / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        writer.writerows([f"images/{Path(path).name}", named[Path(path).name]] for path in sorted(written))
    found = attempt(lambda: list_images(root))
    if found is None:
        return
    assert len(found.records) + sum(problem.kind != "clutter" for problem in found.problems) >= len(written)
