"""Every remedy that a finding or a message names is followed here, and the data is right afterwards."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graft.core.csv_table import read_csv
from graft.core.errors import DataError
from graft.data.listing import list_images
from graft.data.manifest import read_manifest
from graft.params.validate_data import ValidateDataParams
from graft.pixel_quality.mask_validation import MaskValidation, validate_masks
from graft.quality.findings import FAULTS, KINDS
from graft.quality.validation import Validation, validate
from tests.support.drawn_masks import NAMES, write_pairs
from tests.support.encoded import banded, encoded, png, scene

Change = Callable[[Path], None]


def judged(folder: Path, **params: object) -> Validation:
    return validate(folder, ValidateDataParams.model_validate(params))


def masks_judged(folder: Path, **params: object) -> MaskValidation:
    return validate_masks(folder, ValidateDataParams.model_validate(params))


def kinds_of(found: Validation) -> set[str]:
    return {finding.kind for finding in found.findings}


def pictures(root: Path, counts: dict[str, int], start: int = 0) -> Path:
    """Write different pictures in folders; `counts` by folder."""
    number = start
    for folder, images in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for _ in range(images):
            number += 1
            scene(number).save(root / folder / f"{number}.png")
    return root


def write(content: bytes) -> Callable[[Path], None]:
    return lambda file: file.write_bytes(content)


def with_tags(**tags: object) -> bytes:
    exif = Image.Exif()
    exif[0x013B] = "Ann"
    exif.get_ifd(0x8825)[1] = "N"
    return encoded(scene(901), "JPEG", quality=95, exif=exif.tobytes(), **tags)


JPEG = encoded(scene(900), "JPEG", quality=95)
NOT_FINITE = np.full((72, 96), 0.5, "f4") + np.random.default_rng(0).random((72, 96), "f4") / 4
NOT_FINITE[0, 0] = np.nan
NEGATIVE = np.nan_to_num(NOT_FINITE) - 0.1

REPAIRED = {
    # kind: (name, how it is planted, what its remedy makes of it)
    "empty_file": ("empty.jpg", write(b""), write(encoded(scene(910), "JPEG", quality=95))),
    "undecodable": ("text.png", write(b"no picture"), os.remove),
    "truncated": ("cut.jpg", write(JPEG[: len(JPEG) // 2]), write(JPEG)),
    "damaged": (
        "hole.jpg",
        write(JPEG[: len(JPEG) // 2] + bytes(300) + JPEG[len(JPEG) // 2 + 300 :]),
        write(encoded(scene(911), "JPEG", quality=95)),
    ),
    "decompression_bomb": ("bomb.png", write(png(20_000, 20_000)), write(encoded(scene(912), "PNG"))),
    "unsupported": ("layers.psd", write(b"8BPS" + bytes(60)), os.remove),
    "broken_link": ("link.png", lambda file: file.symlink_to("nowhere.png"), lambda file: replaced(file, 913)),
    "path_escape": ("out.png", lambda file: file.symlink_to("/etc/hostname"), lambda file: replaced(file, 914)),
    "special_file": ("pipe.png", os.mkfifo, os.remove),
    "wrong_extension": (
        "odd.png",
        write(encoded(scene(915), "JPEG", quality=95)),
        lambda f: f.rename(f.with_suffix(".jpg")),
    ),
    "gps": ("gps.jpg", write(with_tags()), write(encoded(scene(901), "JPEG", quality=95))),
    "personal": ("personal.jpg", write(with_tags(comment="x")), write(encoded(scene(902), "JPEG", quality=95))),
    "transparent": (
        "clear.png",
        lambda file: scene(916).convert("RGBA").rotate(20).save(file),
        lambda file: scene(916).save(file),
    ),
    "tiny": ("tiny.png", lambda file: scene(917, 8, 8).save(file), os.remove),
    "extreme_aspect": ("long.png", lambda file: scene(918, 400, 40).save(file), lambda file: scene(918).save(file)),
    "uniform": ("flat.png", lambda file: Image.new("RGB", (96, 72), (90, 20, 30)).save(file), os.remove),
    "exact_duplicate": ("copy.png", lambda file: scene(1).save(file), os.remove),
    "not_finite": (
        "nan.tif",
        lambda file: Image.fromarray(NOT_FINITE).save(file),
        lambda file: Image.fromarray(np.nan_to_num(NOT_FINITE)).save(file),
    ),
    "animated": (
        "frames.gif",
        lambda file: scene(919).save(file, save_all=True, append_images=[scene(920)]),
        lambda file: scene(919).save(file),
    ),
}


def replaced(file: Path, seed: int) -> None:
    file.unlink()
    scene(seed).save(file)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("clean"), {"ant": 20, "bee": 20})


@pytest.fixture
def folder(clean: Path, tmp_path: Path) -> Path:
    shutil.copytree(clean, tmp_path / "data")
    return tmp_path / "data"


def test_files_are_repaired_as_their_findings_say(folder: Path) -> None:
    for name, plant, _ in REPAIRED.values():
        plant(folder / "ant" / name)
    faulty = judged(folder)
    assert faulty.verdict == "fail"
    assert {*REPAIRED} <= kinds_of(faulty)
    for name, _, repair in REPAIRED.values():
        repair(folder / "ant" / name)  # type: ignore[operator]
    assert not kinds_of(judged(folder)) & {*REPAIRED} - {"broken_link"}


def test_bad_images_are_left_out_on_request_each_named(folder: Path) -> None:
    bad = {kind: REPAIRED[kind] for kind in FAULTS if kind in REPAIRED}
    for name, plant, _ in bad.values():
        plant(folder / "ant" / name)
    found = judged(folder, on_bad_image="drop")
    assert found.verdict == "warn"
    assert {*bad} <= kinds_of(found)
    assert len(found.inventory.kept) == 40


PARAMETERS: dict[str, tuple[Change, dict[str, object]]] = {
    "decompression_bomb": (lambda f: scene(930, 400, 300).save(f / "ant/large.png"), {"max_pixels": 120_000}),
    "leakage": (lambda f: split(f, copies=2), {"on_leakage": "drop"}),
    "left_out": (lambda f: pictures(f, {".": 12}, 940) and None, {"severity": {"left_out": "warn"}}),
    "too_few": (lambda f: pictures(f, {"few": 3}, 960) and None, {"min_per_class": 1}),
    "empty_split": (lambda f: None, {"val_fraction": 0.2, "test_fraction": 0.2}),
    "channels": (lambda f: all_of_four_bands(f), {"channels": 4}),
    "negative_values": (
        lambda f: Image.fromarray(NEGATIVE).save(f / "ant/minus.tif"),
        {"value_range": (0.0, 1.0), "severity": {"negative_values": "ignore"}},
    ),
    "small_test": (lambda f: None, {"test_fraction": 0.9}),
}
BEFORE: dict[str, dict[str, object]] = {
    "decompression_bomb": {"max_pixels": 100_000},
    "leakage": {"on_leakage": "fail"},
    "empty_split": {"val_fraction": 0.0, "test_fraction": 0.0},
}


def split(folder: Path, copies: int) -> None:
    for label in ("ant", "bee"):
        files = sorted((folder / label).iterdir())
        for name, part in (("train", files[:12]), ("val", files[12:15]), ("test", files[15:])):
            (folder / name / label).mkdir(parents=True)
            for file in part:
                file.rename(folder / name / label / file.name)
        (folder / label).rmdir()
    for file in sorted((folder / "test/ant").iterdir())[:copies]:
        shutil.copy(file, folder / "train/ant" / f"copy {file.name}")


def all_of_four_bands(folder: Path) -> None:
    for file in [*folder.rglob("*.png")]:
        pixels = np.asarray(Image.open(file))
        file.with_suffix(".tif").write_bytes(banded(np.dstack([pixels, pixels[:, :, :1]])[:, :, [0, 1, 2, 3]]))
        file.unlink()


@pytest.mark.parametrize("kind", PARAMETERS)
def test_the_parameter_that_a_finding_names_mends_it(folder: Path, kind: str) -> None:
    plant, params = PARAMETERS[kind]
    plant(folder)
    before = judged(folder, **BEFORE.get(kind, {}))
    assert kind in kinds_of(before) or (kind == "channels" and before.verdict == "fail"), kinds_of(before)
    after = judged(folder, **params)
    assert after.verdict != "fail", after.failure()
    if kind not in ("leakage", "left_out"):  # these are told still, as a warning
        assert kind not in kinds_of(after)


def test_every_parameter_in_a_remedy_is_tried_here() -> None:
    named = {
        "".join(match)
        for kind in KINDS.values()
        for match in re.findall(r"validate_data\.(\w+)|\b(on_[a-z_]+|[a-z]+_fraction)\b", kind.remedy)
    }
    tried = {name for _, params in PARAMETERS.values() for name in params} | {"on_bad_image", "mask_values"}
    assert named <= tried, named - tried


def test_a_value_of_masks_is_named(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "data", 12, (48, 36))
    Image.fromarray(np.full((36, 48), 77, np.uint8)).save(folder / "masks/003.png")
    named = {"task": "segment", "mask_values": NAMES}
    assert "mask_values" in {one.kind for one in masks_judged(folder, **named).findings}
    named["mask_values"] = NAMES | {77: "blob"}
    assert "mask_values" not in {one.kind for one in masks_judged(folder, **named).findings}


@pytest.mark.parametrize("images", [1, 2, 3])
def test_a_small_class_among_large_ones_has_a_way_out(folder: Path, images: int) -> None:
    line = next(one.line() for one in judged(pictures(folder, {"rare": images}, 980)).findings if one.kind == "too_few")
    assert "validate_data.min_per_class=1" in line
    assert judged(folder, min_per_class=1).verdict != "fail"


@pytest.mark.parametrize("images", [2, 3])
def test_classes_of_two_and_three_images_have_a_way_out(tmp_path: Path, images: int) -> None:
    folder = pictures(tmp_path, {"ant": images, "bee": images, "cat": images})
    failed = judged(folder)
    finding = next(finding for finding in failed.findings if finding.severity == "fail")
    assert finding.kind == "too_few"
    name, value = re.search(r"validate_data\.(\w+)=(\w+)", finding.line()).groups()  # type: ignore[union-attr]
    assert judged(folder, **{name: value}).verdict == "warn"


AMBIGUOUS = {
    "sites": {"north/cat": 9, "north/dog": 9, "south/cat": 9, "south/dog": 9},
    "nested": {"animal/cat": 9, "plant/rose": 9, "plant/tulip": 9},
    "splits that may be classes": {"train": 9, "test": 9},
    "no training set": {"val/cat": 9, "val/dog": 9, "test/cat": 9, "test/dog": 9},
    "a second copy": {"cat": 9, "dog": 9, "pets/cat": 9, "pets/dog": 9},
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_every_way_that_a_message_names_reads_the_folder(tmp_path: Path, name: str) -> None:
    folder = pictures(tmp_path, AMBIGUOUS[name])
    with pytest.raises(DataError) as caught:
        list_images(folder)
    ways = re.findall(r"validate_data\.layout=(\w+)(?: validate_data\.label_level=(\d+))?", str(caught.value))
    assert ways
    read = [list_images(folder, layout, int(level) if level else None) for layout, level in ways]
    assert all(len(listing.records) + len(listing.problems) == sum(AMBIGUOUS[name].values()) for listing in read)
    assert len({tuple((r.label, r.split, r.domain) for r in listing.records) for listing in read}) == len(ways)


TABLES = {
    # what is wrong: (before, words of the message, after)
    "unquoted": (
        "path,label\na.png,ant, black\n",
        "put a value that holds a comma in double",
        'path,label\na.png,"ant, black"\n',
    ),
    "missing": ("path,label,split\na.png,ant\n", "or a comma for each empty value", "path,label,split\na.png,ant,\n"),
    "open quote": ('path,label\na.png,"ant\n', "write a quote in a value twice", 'path,label\na.png,"""ant"\n'),
    "two names": ("path,label,label\na,b,c\n", "give each its own name", "path,label,label2\na,b,c\n"),
    "two paths": ("image,filename,label\na,b,c\n", "name the right one path", "path,filename,label\na,b,c\n"),
    "no label": ("path,species\na,b\n", "no column 'label'", "path,label\na,b\n"),
    "no rows": ("path,label\n", "expected one for every image", "path,label\na,b\n"),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_mended_as_their_messages_say(tmp_path: Path, name: str) -> None:
    before, words, after = TABLES[name]
    file = tmp_path / "manifest.csv"
    file.write_text(before)
    with pytest.raises(DataError, match=re.escape(words)):
        read_manifest(file)
    file.write_text(after)
    assert len(read_manifest(file).table.rows) == 1


@pytest.mark.parametrize("content", ["path,label\na,caf\u00e9\n".encode("latin-1"), b"path,label\na,b\0\n"])
def test_saving_as_utf_8_mends_an_encoding(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.csv"
    file.write_bytes(content)
    with pytest.raises(DataError, match="save it as CSV in UTF-8"):
        read_csv(file)
    file.write_text(content.decode("latin-1").replace("\0", ""), encoding="utf-8")
    assert len(read_csv(file).rows) == 1


@contextmanager
def manifest(folder: Path, rows: list[str]) -> Iterator[Path]:
    (folder / "manifest.csv").write_text("path,label\n" + "".join(f"{row}\n" for row in rows))
    yield folder


def test_rows_and_files_of_a_manifest_are_completed(folder: Path) -> None:
    rows = [f"{file.relative_to(folder)},{file.parent.name}" for file in sorted(folder.rglob("*.png"))]
    with manifest(folder, [*rows[1:], "ant/none.png,ant"]):
        assert {"missing_file", "unlisted"} <= kinds_of(judged(folder))
    with manifest(folder, rows):
        assert not {"missing_file", "unlisted"} & kinds_of(judged(folder))


def test_labels_are_renamed_merged_and_added(tmp_path: Path) -> None:
    folder = pictures(tmp_path, {"cat": 8, "Cats": 8})
    assert "label_variant" in kinds_of(judged(folder))
    for file in (folder / "Cats").iterdir():
        file.rename(folder / "cat" / file.name)
    (folder / "Cats").rmdir()
    assert "one_class" in kinds_of(judged(folder))
    assert not {"one_class", "label_variant"} & kinds_of(judged(pictures(folder, {"dog": 16}, 50)))
