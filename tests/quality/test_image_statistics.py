"""Statistics of pictures of any size and encoding."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from graft.data.records import Record
from graft.quality.image_statistics import Examination, examine, examine_all, extension_fits
from tests.support.encoded import encoded, png, scene


def statistics(image: Image.Image, image_format: str = "PNG", **options: object) -> dict[str, float]:
    found = examine(encoded(image, image_format, **options)).statistics
    assert found is not None
    return {name: getattr(found, name) for name in found.__slots__ if name not in ("signature", "seen_through")}


def test_known_brightness_and_colour() -> None:
    half = np.zeros((40, 40, 3), np.uint8)
    half[:, 20:] = (255, 255, 255)
    found = statistics(Image.fromarray(half))
    assert found["brightness"] == pytest.approx(0.5)
    assert found["contrast"] == pytest.approx(0.5)
    assert (found["darkest"], found["brightest"]) == (0.0, 1.0)
    assert found["entropy"] == pytest.approx(1.0)
    assert found["saturation"] == 0.0
    red = statistics(Image.new("RGB", (40, 40), (255, 0, 0)))
    assert (red["red"], red["green"], red["blue"], red["saturation"]) == (1.0, 0.0, 0.0, 1.0)
    assert red["contrast"] == pytest.approx(0.0, abs=1e-9)


def test_blur_lowers_sharpness_and_nothing_else_much() -> None:
    from PIL import ImageFilter

    sharp = scene(0, 200, 160)
    blurred = statistics(sharp.filter(ImageFilter.GaussianBlur(6)))
    assert blurred["sharpness"] < 0.3 * statistics(sharp)["sharpness"]
    assert blurred["brightness"] == pytest.approx(statistics(sharp)["brightness"], abs=0.02)


@pytest.mark.parametrize("size", [(1600, 1200), (1601, 1203), (700, 500), (256, 256)])
def test_a_reduced_decode_measures_the_same(size: tuple[int, int]) -> None:
    image = scene(1).resize(size, Image.Resampling.BICUBIC)
    exact, reduced = statistics(image), statistics(image, "JPEG", quality=95)
    for name, value in exact.items():
        assert reduced[name] == pytest.approx(value, abs=0.08 * max(value, 0.3)), name


def test_size_is_that_of_the_file_and_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    found = examine(encoded(scene(2, 1600, 1200), "JPEG", exif=exif)).facts
    assert found is not None
    assert (found.width, found.height, found.orientation) == (1200, 1600, 6)


@pytest.mark.parametrize("tag", [0xA430, 0xA431, 0xA435])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_owner_and_serial_numbers_are_read_where_cameras_write_them(tag: int, kind: str) -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[tag] = "0042 of A. Painter"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[1] = "N"
    found = examine(encoded(scene(2), kind, exif=exif.tobytes())).facts
    assert found is not None
    assert (found.personal, found.gps) == (True, True)


def test_a_broken_large_jpeg_shows_at_reduced_scale() -> None:
    content = encoded(scene(3, 1600, 1200), "JPEG")
    assert examine(content[: len(content) - 500]).fault == "truncated"


def test_transparency_counts_only_if_a_pixel_is_transparent() -> None:
    opaque = scene(4).convert("RGBA")
    assert examine(encoded(opaque, "PNG")).statistics.seen_through is False  # type: ignore[union-attr]
    opaque.putpixel((0, 0), (0, 0, 0, 10))
    assert examine(encoded(opaque, "PNG")).statistics.seen_through is True  # type: ignore[union-attr]


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 3)])
def test_the_smallest_pictures(size: tuple[int, int]) -> None:
    found = examine(encoded(Image.new("L", size, 77), "PNG"))
    assert found.fault == ""
    assert found.statistics is not None
    assert len(found.statistics.signature) == 32 * 32


def test_faults_are_results() -> None:
    assert examine(b"").fault == "empty_file"
    bomb = examine(png(60_000, 60_000))
    assert (bomb.fault, bomb.facts, bomb.statistics) == ("decompression_bomb", None, None)
    assert len(bomb.id) == 64


def test_all_files_in_order_with_what_is_known(tmp_path: Path) -> None:
    records = []
    for number in range(12):
        file = tmp_path / f"{number}.png"
        file.write_bytes(encoded(scene(number), "PNG"))
        records.append(Record(file.name, str(file), "a"))
    (tmp_path / "3.png").unlink()
    os.mkfifo(tmp_path / "3.png")
    found = list(examine_all(records, 10**6, 10**6))
    assert [one.fault for one in found] == ["unreadable" if number == 3 else "" for number in range(12)]
    assert found[3].fault_text == "is not a regular file"
    marked = Examination(found[5].id, 1, "truncated")
    again = list(examine_all(records, 10**6, 10**6, known=lambda name: marked if name == marked.id else None))
    assert again[5] is marked
    assert again[6] == found[6]


def test_reading_ahead_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graft.quality.image_statistics._AHEAD", 5)
    file = tmp_path / "a.png"
    file.write_bytes(png(8, 8))
    taken: list[int] = []

    def records() -> Iterator[Record]:
        for number in range(40):
            taken.append(number)
            yield Record(f"{number}.png", str(file), "a")

    found = examine_all(records(), 10**6, 10**6, workers=2)
    for number in range(1, 36):
        next(found)
        assert len(taken) == number + 4
    assert len(list(found)) == 5


def test_extensions() -> None:
    assert extension_fits("a/b.JPG", "JPEG")
    assert extension_fits("a/b.jpg", "MPO")
    assert not extension_fits("a/b.png", "JPEG")
    assert not extension_fits("a/b", "PNG")
