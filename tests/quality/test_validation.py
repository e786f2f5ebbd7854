"""The verdict on a folder: each fault with its one line, and clean data passing."""

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from graft.core.errors import DataError, ParamsError
from graft.params.validate_data import ValidateDataParams
from graft.quality import inventory, user_expectations
from graft.quality.validation import Validation, counts_by_kind, validate
from graft.reports.data_page import write_page
from tests.support.encoded import encoded, png

MakeImages = Callable[..., Path]
DEFAULTS = ValidateDataParams()


@pytest.fixture
def folder(image_folder: MakeImages) -> Path:
    return image_folder({"cat": 8, "dog": 8})


def judged(folder: Path, **params: object) -> Validation:
    # The folders here are small on purpose.
    return validate(folder, ValidateDataParams.model_validate({"severity": {"small_test": "ignore"}, **params}))


def test_a_clean_folder_passes(folder: Path) -> None:
    found = judged(folder)
    assert found.verdict == "pass", found.findings
    assert found.counts == {
        "train": {"cat": 3, "dog": 4},
        "val": {"cat": 2, "dog": 2},
        "test": {"cat": 3, "dog": 2},
    }
    assert found.warnings == []


def test_images_keep_their_splits_when_a_folder_grows(image_folder: MakeImages, tmp_path: Path) -> None:
    grown = image_folder({"cat": 60, "dog": 60})
    small = tmp_path / "before"
    for label in ("cat", "dog"):
        (small / label).mkdir(parents=True)
        for file in sorted((grown / label).iterdir())[10:]:
            (small / label / file.name).write_bytes(file.read_bytes())
    before, after = (judged(at).inventory.kept.set_index("id")["split"] for at in (small, grown))
    assert len(before) == 100
    assert (after[before.index] == before).all()


def test_classes_that_every_split_has_only_after_a_move_are_named(image_folder: MakeImages) -> None:
    found = judged(image_folder({"cat": 40, "dog": 40, "fox": 3, "wolf": 3}))
    for label in ("fox", "wolf"):
        assert [counts[label] for counts in found.counts.values()] == [1, 1, 1]
    assert found.inventory.moved
    assert {*found.inventory.moved} <= {"fox", "wolf"}
    named = ", ".join(map(repr, found.inventory.moved))
    assert found.warnings[0] == (
        f"splits: some images of {named} were moved to give each split every class; they may move as data grows"
    )


def test_each_bad_image_has_its_line_and_can_be_dropped(folder: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    bad = {
        "cat/empty.jpg": (b"", "empty_file", "the file is empty (0 bytes)"),
        "cat/cut.jpg": (
            encoded(noise, "JPEG")[:1000],
            "truncated",
            "the file is cut short (Premature end of JPEG file",
        ),
        "cat/text.jpg": (
            b"no picture",
            "undecodable",
            "not an image in a supported format (JPEG, PNG, WebP, BMP, GIF, TIFF)",
        ),
        "cat/bomb.png": (
            png(60_000, 60_000),
            "decompression_bomb",
            "60000 x 60000 pixels (3,600,000,000), more than the 100,000,000 allowed",
        ),
        "cat/layers.psd": (b"8BPS" + bytes(9), "unsupported", "Photoshop is not supported"),
    }
    for name, (content, _, _) in bad.items():
        (folder / name).write_bytes(content)
    failed = judged(folder)
    found = {finding.files: finding for finding in failed.findings if finding.severity == "fail"}
    for name, (_, kind, text) in bad.items():
        assert found[(name,)].line().startswith(f"{kind}: 1 bad image: {name} ({text}")
    assert failed.failure().startswith("empty_file: 1 bad image: cat/empty.jpg (the file is empty (0 bytes)); repair,")
    assert failed.failure().endswith("also decompression_bomb (1); also unsupported (1)")
    assert "\n" not in failed.failure()

    dropped = judged(folder, on_bad_image="drop")
    assert dropped.verdict == "warn"
    assert sum("1 image left out: cat/" in line for line in dropped.warnings) == 5
    assert dropped.counts == {"train": {"cat": 3, "dog": 4}, "val": {"cat": 2, "dog": 2}, "test": {"cat": 3, "dog": 2}}


def test_one_class(image_folder: MakeImages) -> None:
    found = judged(image_folder({"cat": 8}))
    assert found.failure().startswith("one_class: only one class (cat), expected at least two; add images")


def test_a_class_with_one_image(image_folder: MakeImages) -> None:
    found = judged(image_folder({"cat": 8, "dog": 1}))
    line = "too_few: expected at least 2 training images per class after the split: 'dog' has 1; add images, merge"
    assert found.failure().startswith(line)


def test_a_label_only_in_test(image_folder: MakeImages) -> None:
    found = judged(image_folder({"train": {"cat": 8, "dog": 8}, "test": {"cat": 4, "dog": 4, "wolf": 4}}))
    assert found.failure() == (
        "label_not_in_train: labels that training never sees: 'wolf' is only in test; "
        "add training images of them or remove them from the other splits"
    )


def test_labels_missing_from_a_given_split(image_folder: MakeImages) -> None:
    found = judged(image_folder({"train": {"cat": 8, "dog": 8}, "val": {"cat": 2, "dog": 2}, "test": {"cat": 4}}))
    assert found.verdict == "warn"
    assert "'dog' is not in test" in found.findings[0].message


def test_no_validation_split(folder: Path) -> None:
    assert judged(folder, val_fraction=0).failure().startswith("empty_split: no images in val; add images to them, or")


def test_every_image_bad(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/1.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    assert judged(tmp_path).failure().startswith("empty_file: 2 bad images: a/1.png (the file is empty (0 bytes)), b/1")
    assert judged(tmp_path, on_bad_image="drop").failure().startswith("one_class: no usable images")


def test_wrong_paths_in_a_manifest(folder: Path) -> None:
    (folder / "manifest.csv").write_text("path,label\ncat/0000.png,cat\ncat/none.png,cat\n../x.png,dog\n")
    found = judged(folder)
    assert found.failure().startswith(
        "missing_file: 1 bad image: cat/none.png (manifest.csv line 3 names a file that is not there); add the file"
    )
    assert "path_escape" in counts_by_kind(found.findings)


def test_other_files_are_listed_and_left_out(folder: Path) -> None:
    (folder / "cat" / "README.txt").write_text("about cats")
    (folder / "cat" / "LICENSE").write_text("")
    found = judged(folder)
    assert found.verdict == "pass"
    assert [(finding.kind, finding.severity, finding.count) for finding in found.findings] == [
        ("not_an_image", "info", 2)
    ]


def test_leakage_drops_fails_or_goes_on(image_folder: MakeImages, tmp_path: Path) -> None:
    root = image_folder({"train": {"cat": 8, "dog": 8}, "test": {"cat": 4, "dog": 4}})
    shutil.copy(root / "test/cat/0000.png", root / "train/cat/copy.png")
    found = judged(root, on_leakage="fail")
    assert found.failure().startswith(
        "leakage: the same picture or group in more than one split: 2 (test/cat/0000.png, train/cat/copy.png); move"
    )
    assert found.findings[0].groups == (("test/cat/0000.png", "train/cat/copy.png"),)
    assert judged(root, on_leakage="warn").verdict == "warn"
    dropped = judged(root)
    assert dropped.verdict == "warn"
    messages = {finding.kind: finding.message for finding in dropped.findings}
    assert messages["leakage"] == (
        "leakage: 1 picture or group in more than one split; 1 left out, outside the test set: train/cat/copy.png; "
        "with them a model could answer 1 of 8 test images from memory, and its accuracy would be up to 12.5 points "
        "too high"
    )
    written = dropped.write(tmp_path / "dataset").table.set_index("path")["copy_in_training"]
    assert written[written == "left out"].index.tolist() == ["test/cat/0000.png"]
    assert "train/cat/copy.png" not in set(dropped.inventory.kept["path"])
    assert dropped.counts["test"] == {"cat": 4, "dog": 4}


def test_splits_made_here_never_leak(folder: Path) -> None:
    for number in range(4):
        shutil.copy(folder / "cat/0000.png", folder / f"cat/copy{number}.png")
    found = judged(folder)
    assert found.verdict == "warn"
    assert counts_by_kind(found.findings) == {"exact_duplicate": 5}
    copies = found.inventory.images.loc[found.inventory.images["exact_copies"] > 0, "split"]
    assert copies.nunique() == 1


def test_a_group_of_the_users_in_two_given_splits(folder: Path) -> None:
    rows = [
        f"{label}/{number:04d}.png,{label},{'train' if number < 5 else 'test'},{label}{min(number, 5)}"
        for label in ("cat", "dog")
        for number in range(8)
    ]
    text = "path,label,split,group\n" + "\n".join(rows)
    (folder / "manifest.csv").write_text(text)
    assert judged(folder).verdict == "pass"
    (folder / "manifest.csv").write_text(text.replace("cat0", "cat5"))
    assert judged(folder).findings[0].kind == "leakage"
    assert judged(folder, on_leakage="fail").verdict == "fail"


def test_one_picture_under_two_labels(folder: Path) -> None:
    shutil.copy(folder / "cat/0000.png", folder / "dog/copy.png")
    found = judged(folder)
    assert counts_by_kind(found.findings) == {"exact_duplicate": 2, "contradiction": 2}
    assert judged(folder, severity={"contradiction": "fail"}).verdict == "fail"
    assert judged(folder, severity={"contradiction": "ignore", "exact_duplicate": "ignore"}).verdict == "pass"


def test_spellings_of_one_label(image_folder: MakeImages) -> None:
    found = judged(image_folder({"Cat": 8, "cats": 8, "dog": 8}))
    assert found.findings[0].kind == "label_variant"
    assert found.findings[0].files == ("Cat", "cats")


def test_numbers_of_one_value_are_spellings_of_one_label(image_folder: MakeImages) -> None:
    assert judged(image_folder({"7": 8, "07": 8, "70": 8})).findings[0].files == ("07", "7")


def test_imbalance(image_folder: MakeImages) -> None:
    found = judged(image_folder({"cat": 60, "dog": 6}), thresholds={"imbalance": 5})
    assert found.findings[0].message.startswith("imbalance: the largest class has 41: 'dog' has 3 training images")


def test_unusual_pictures(folder: Path) -> None:
    disc = Image.radial_gradient("L").resize((24, 24))
    noise = Image.fromarray(np.random.default_rng(3).integers(0, 255, (24, 24), np.uint8))
    odd = {
        "tiny.png": (noise.resize((8, 20)), {"tiny"}),
        "long.png": (
            Image.fromarray(np.random.default_rng(2).integers(0, 255, (200, 20), np.uint8)),
            {"extreme_aspect"},
        ),
        "large.png": (
            Image.fromarray(np.random.default_rng(0).integers(0, 255, (256, 256), np.uint8)),
            {"size_outlier"},
        ),
        "flat.png": (Image.new("RGB", (24, 24), (90, 120, 30)), {"uniform", "low_information", "blurred"}),
        "night.png": (noise.point(lambda value: value // 8), {"dark"}),
        "snow.png": (noise.point(lambda value: 255 - value // 10), {"bright"}),
        "soft.png": (disc.resize((180, 180)), {"blurred"}),
        "photo.jpg": (
            Image.fromarray(np.random.default_rng(4).integers(0, 255, (24, 24), np.uint8)),
            {"wrong_extension"},
        ),
        "palette.png": (
            Image.fromarray(np.random.default_rng(1).integers(0, 255, (24, 24), np.uint8)).convert("P"),
            {"odd_mode"},
        ),
    }
    for name, (image, _) in odd.items():
        image.save(folder / "cat" / name, "PNG")
    found = judged(folder, thresholds={"similarity": 1.0}, severity={"grey": "ignore"})
    assert found.verdict == "warn"
    for name, (_, kinds) in odd.items():
        named = {finding.kind for finding in found.findings if f"cat/{name}" in finding.files}
        assert named == kinds, name
    told = [finding for finding in found.findings if finding.kind != "small_test"]  # whose rows are classes
    assert {path for finding in told for path in finding.files} == {f"cat/{name}" for name in odd}


def test_metadata_of_photos(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x013B] = 6, "A. Painter"
    exif.get_ifd(0x8825)[1] = "N"
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 30, 3), np.uint8))
    image.save(folder / "cat/x.jpg", exif=exif)
    image.save(folder / "cat/x.gif", save_all=True, append_images=[image.rotate(90)])
    image.putalpha(100)
    image.save(folder / "cat/y.png")
    found = {finding.kind: finding.files for finding in judged(folder).findings}
    assert found["gps"] == found["personal"] == found["rotated"] == ("cat/x.jpg",)
    assert found["animated"] == found["odd_mode"] == ("cat/x.gif",)
    assert found["transparent"] == ("cat/y.png",)


def test_own_expectations_are_judged_too(folder: Path, tmp_path: Path) -> None:
    rule = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "width", "min_value": 100}}
    own = tmp_path / "own"
    own.mkdir()
    (own / "sizes.json").write_text(json.dumps({"expectations": [{**rule, "meta": {"severity": "warn"}}]}))
    found = judged(folder, expectations=str(own))
    assert found.verdict == "warn"
    assert found.findings[0].kind == "expectation"
    assert found.findings[0].count == 16
    (own / "sizes.json").write_text(json.dumps({"expectations": [rule]}))
    assert judged(folder, expectations=str(own)).verdict == "fail"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ([], r"own.json: expected a suite, an object with a list 'expectations'"),
        ({"expectations": [{"type": "expect_wonders"}]}, r"own.json: expectation 1 cannot be used"),
        (
            {"expectations": [{"type": "expect_column_to_exist", "meta": {"severity": "bad"}}]},
            r"own.json: expectation 1: unknown severity 'bad'; known: fail, warn, info, ignore",
        ),
        (
            {"expectations": [{"type": "expect_column_values_to_be_unique", "kwargs": {"column": "no"}}]},
            r"own.json: expect_column_values_to_be_unique could not be evaluated",
        ),
    ],
)
def test_own_expectations_that_cannot_be_used(folder: Path, tmp_path: Path, content: object, line: str) -> None:
    (tmp_path / "own.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=line):
        judged(folder, expectations=str(tmp_path))


def test_own_expectations_in_python(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import great_expectations.expectations as gxe\n"
        "\n"
        "class ExpectWideImages(gxe.ExpectColumnValuesToBeBetween):\n"
        '    """Widths fit a camera."""\n'
        "    column: str = 'width'\n"
        "\n"
        "def expectations(images):\n"
        "    widest = images['width'].max()\n"
        "    return [\n"
        "        ExpectWideImages(min_value=widest + 1, meta={'severity': 'warn'}),\n"
        "        gxe.ExpectColumnValuesToNotBeNull(column='label'),\n"
        "    ]\n"
    )
    found = judged(folder, expectations=str(tmp_path))
    assert found.verdict == "warn"
    (finding,) = found.findings
    assert (finding.kind, finding.count) == ("expectation", 16)
    assert "wide images" in finding.message
    own = [one for one in found.judgement.suites["images"] if one["meta"].get("file") == "own.py"]
    assert len(own) == 2
    json.dumps(found.judgement.results, allow_nan=False)


def test_expectations_are_in_the_working_directory_or_next_to_the_code(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "width", "min_value": 100}}
    for place in ("code", "here"):
        (tmp_path / place / "rules").mkdir(parents=True)
        (tmp_path / place / "rules" / f"{place}.json").write_text(json.dumps({"expectations": [rule]}))
    monkeypatch.setattr(user_expectations, "home", lambda: tmp_path / "code")
    for place, used in ((tmp_path, "code.json"), (tmp_path / "here", "here.json")):
        monkeypatch.chdir(place)
        suite = judged(folder, expectations="rules").judgement.suites["images"]
        assert [one["meta"]["file"] for one in suite if "file" in one["meta"]] == [used]


def test_no_name_means_no_expectations_of_ones_own(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "setup.py").write_text("raise SystemExit('this is run')\n")
    monkeypatch.chdir(tmp_path)
    assert judged(folder, expectations="").verdict != "fail"


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("def expectations(images:\n", r"own\.py: line 1: SyntaxError"),
        ("import nothing_of_the_kind\n", r"own\.py: line 1: ModuleNotFoundError: No module named 'nothing_of"),
        ("x = 1\n", r"own\.py: expected a function expectations\(images\) that returns a list of expectations"),
        ("def expectations(images):\n    return images['no']\n", r"own\.py: line 2: KeyError: 'no'"),
        (
            "def expectations(images):\n    return [1]\n",
            r"own\.py: expectations\(images\) returned int as number 1",
        ),
    ],
)
def test_python_expectations_that_cannot_be_used(folder: Path, tmp_path: Path, code: str, line: str) -> None:
    (tmp_path / "own.py").write_text(code)
    with pytest.raises(DataError, match=line):
        judged(folder, expectations=str(tmp_path))


def test_an_unknown_kind_of_finding() -> None:
    with pytest.raises(ParamsError, match="unknown kind of finding 'blured'; did you mean 'blurred'"):
        judged(Path("anywhere"), severity={"blured": "fail"})


def test_the_dataset_holds_the_files_as_they_are(folder: Path, tmp_path: Path) -> None:
    (folder / "manifest.csv").write_text(
        "path,label,camera\n"
        + "".join(f"{label}/{n:04d}.png,{label},c{n}\n" for label in ("cat", "dog") for n in range(8))
    )
    dataset = judged(folder).write(tmp_path / "dataset")
    assert dataset.classes == ("cat", "dog")
    assert list(dataset.reader()) == [(folder / path).read_bytes() for path in dataset.table["path"]]
    assert dataset.table["camera"].tolist() == [f"c{n}" for _ in range(2) for n in range(8)]
    assert pd.api.types.is_integer_dtype(dataset.table["width"])


def test_a_column_of_the_users_that_graft_has_too(folder: Path, tmp_path: Path) -> None:
    rows = "".join(f"{label}/{n:04d}.png,{label},{n},x{n}\n" for label in ("cat", "dog") for n in range(8))
    (folder / "manifest.csv").write_text(f"path,label,width,id\n{rows}")
    table = judged(folder).write(tmp_path / "dataset").table
    assert table["manifest:width"].tolist() == [str(n) for _ in range(2) for n in range(8)]
    assert set(table["manifest:id"]) == {f"x{n}" for n in range(8)}
    assert pd.api.types.is_integer_dtype(table["width"])


def test_a_folder_that_changes_while_it_is_read(folder: Path, tmp_path: Path) -> None:
    found = judged(folder)
    (folder / "cat/0000.png").write_bytes((folder / "dog/0000.png").read_bytes())
    with pytest.raises(DataError, match=r"cat/0000.png: changed while it was read; run again when nothing writes"):
        found.write(tmp_path / "dataset")
    (folder / "cat/0000.png").unlink()
    with pytest.raises(DataError, match=r"cat/0000.png: vanished while the folder was read; run again"):
        found.write(tmp_path / "dataset")
    assert not (tmp_path / "dataset").exists()


def changed_after_listing(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Change the folder between the listing of its files and the reading of the first."""
    listed = inventory.list_images

    def list_images(root: Path, *reading: object) -> object:
        listing = listed(root, *reading)  # type: ignore[arg-type]
        change()
        return listing

    monkeypatch.setattr(inventory, "list_images", list_images)


def test_files_that_change_between_listing_and_reading(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    for file in (folder / "dog").iterdir():
        (secret / file.name).write_bytes(encoded(Image.new("RGB", (32, 32), (1, 2, 3)), "PNG"))

    def change() -> None:
        (folder / "cat/0000.png").unlink()
        (folder / "cat/0001.png").unlink()
        (folder / "cat/0001.png").symlink_to(secret / "0001.png")
        (folder / "cat/0002.png").unlink()
        os.mkfifo(folder / "cat/0002.png")
        (folder / "cat/0003.png").write_bytes((folder / "cat/0003.png").read_bytes()[:60])
        (folder / "dog").rename(folder / "gone")
        (folder / "dog").symlink_to(secret)

    changed_after_listing(monkeypatch, change)
    validation = judged(folder)
    found = {finding.kind: finding for finding in validation.findings}
    assert {*found["unreadable"].files} == {
        *("cat/0000.png", "cat/0001.png", "cat/0002.png"),
        *(f"dog/{number:04d}.png" for number in range(8)),
    }
    assert found["truncated"].files == ("cat/0003.png",)
    faults = validation.inventory.images.set_index("path")["fault_text"]
    assert faults["cat/0002.png"] == "is not a regular file"


def test_devices_are_named_and_not_opened(folder: Path) -> None:
    try:
        os.mknod(folder / "cat/zero.png", 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root may make devices")
    (folder / "dog/null.png").symlink_to("/dev/null")
    assert counts_by_kind(judged(folder).findings) == {"path_escape": 1, "special_file": 1}


def test_class_folders_with_any_name(tmp_path: Path) -> None:
    names = [b"<script>x", b"'\"&", b"new\nline", b"caf\xe9", b"n" * 255]
    for place, name in enumerate(names):
        label = tmp_path / "data" / os.fsdecode(name)
        label.mkdir(parents=True)
        for number in range(8):
            pixels = np.random.default_rng(100 * place + number).integers(0, 255, (24, 24, 3), np.uint8)
            Image.fromarray(pixels).save(label / f"{number}.png")
    found = judged(tmp_path / "data")
    assert found.verdict == "pass", found.findings
    dataset = found.write(tmp_path / "dataset")
    assert len(dataset.classes) == 5
    assert "caf\\xe9" in dataset.classes
    write_page(found, tmp_path / "page")
    assert "<script" not in (tmp_path / "page/data.html").read_text().split("<main>")[1].split("</main>")[0]


def test_hostile_names_and_entries(folder: Path, tmp_path: Path) -> None:
    content = (folder / "cat/0000.png").read_bytes()
    (folder / "cat/0000.png").unlink()
    names = [b"<img src=x onerror=alert(1)>.png", b"'\"&.png", b"new\nline.png", b"\xff\xfe.png", b"n" * 251 + b".png"]
    for number, name in enumerate(names):
        image = Image.fromarray(np.random.default_rng(number).integers(0, 255, (24, 24, 3), np.uint8))
        (folder / "cat" / os.fsdecode(name)).write_bytes(encoded(image, "PNG"))
    found = judged(folder)
    assert found.verdict == "pass", found.findings
    written = found.write(tmp_path / "dataset")
    assert len(written) == 7 + 8 + 5
    (tmp_path / "secret.png").write_bytes(content)
    (folder / "cat/out.png").symlink_to(tmp_path / "secret.png")
    (folder / "cat/loop.png").symlink_to("loop.png")
    os.mkfifo(folder / "dog/pipe.png")
    kinds = counts_by_kind(judged(folder).findings)
    assert kinds == {"path_escape": 1, "broken_link": 1, "special_file": 1}
    assert judged(folder, on_bad_image="drop").verdict == "warn"


def test_the_suite_and_its_results_are_complete(folder: Path) -> None:
    (folder / "cat/bad.png").write_bytes(b"")
    found = judged(folder)
    kinds = {expectation["meta"]["kind"] for expectation in found.judgement.suites["images"]}
    assert {"fault", "leakage", "blurred"} <= kinds
    failed = [result for result in found.judgement.results["images"] if not result["success"]]
    assert failed[0]["result"]["unexpected_index_list"] == [{"fault": "empty_file", "path": "cat/bad.png"}]
    json.dumps(found.judgement.results, allow_nan=False)
