"""What decoders say about files is heard: damage that they cover up fails, other warnings are findings."""

import io
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from graft.imaging.decode import ImageError, decode
from graft.imaging.decoder_warnings import hearing
from graft.imaging.transform import Transform
from graft.params.validate_data import ValidateDataParams
from graft.quality.image_statistics import examine
from graft.quality.validation import validate
from tests.support.encoded import encoded
from tests.support.pictures import MakeImages

DAMAGED = ("jpeg_cut_eoi", "prog_cut_eoi", "jpeg_zero_hole", "jpeg_noise_hole", "jpeg_missing_block")
SOUND = ("png_big_ztxt", "png_big_itxt", "png_big_iccp")


def photo(seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 255, (30, 40, 3), np.uint8)
    return Image.fromarray(noise).resize((320, 240), Image.Resampling.BICUBIC)


def jpeg(**options: object) -> bytes:
    return encoded(photo(), "JPEG", **options)


def hole(content: bytes, filling: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + filling + content[middle + len(filling) :]


def with_segment(content: bytes, extra: bytes) -> bytes:
    """Return a JPEG with bytes after its first marker."""
    return content[:2] + extra + content[2:]


DAMAGE: dict[str, Callable[[], bytes]] = {
    "cut to 35 %, with an end marker": lambda: jpeg()[: len(jpeg()) * 35 // 100] + b"\xff\xd9",
    "cut, progressive": lambda: jpeg(progressive=True)[:2500] + b"\xff\xd9",
    "cut, grey": lambda: encoded(photo().convert("L"), "JPEG")[:2000] + b"\xff\xd9",
    "cut, CMYK": lambda: encoded(photo().convert("CMYK"), "JPEG")[:3000] + b"\xff\xd9",
    "zeros in the data": lambda: hole(jpeg(), bytes(400)),
    "noise in the data": lambda: hole(jpeg(), np.random.default_rng(1).bytes(300).replace(b"\xff", b"\0")),
    "another marker in the data": lambda: hole(jpeg(), b"\xff\xd3"),
    "a missing restart interval": lambda: jpeg(restart_marker_rows=1).replace(b"\xff\xd2", b"\xff\xd5", 1),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_named_everywhere(shared: Path, name: str) -> None:
    content = (shared / f"cases/images/{name}.jpg").read_bytes()
    found = examine(content)
    assert found.fault == "damaged"
    assert "Corrupt JPEG data" in found.fault_text
    for decoder in (decode, Transform(size=64).pixels, Transform(size=64, channels=1, mean=(0.5,), std=(0.5,)).pixels):
        with pytest.raises(ImageError, match="the decoder says: Corrupt JPEG data") as refused:
            decoder(content)
        assert refused.value.kind == "damaged"


@pytest.mark.parametrize("name", DAMAGE)
def test_every_kind_of_damage_is_heard(name: str) -> None:
    content = DAMAGE[name]()
    assert examine(content).fault == "damaged"
    with pytest.raises(ImageError, match="the decoder says"):
        Transform(size=64).pixels(content)
    with pytest.raises(ImageError, match="the decoder says"):
        decode(content)


@pytest.mark.parametrize("name", SOUND)
def test_sound_files_with_large_texts_are_read(shared: Path, name: str) -> None:
    content = (shared / f"cases/images/{name}.png").read_bytes()
    assert examine(content).fault == ""
    assert decode(content).shape[2] == 3
    assert Transform(size=64).pixels(content).shape == (3, 64, 64)


@pytest.mark.parametrize("compressed", [True, False])
def test_texts_beyond_every_limit_are_left_out(compressed: bool) -> None:
    info = PngImagePlugin.PngInfo()
    for number in range(9):
        info.add_text(f"note{number}", "x" * (9 * 2**20), zip=compressed)
    content = encoded(photo(), "PNG", pnginfo=info)
    assert examine(content).fault == ""
    assert np.array_equal(decode(content), np.asarray(photo()))


def test_a_png_without_its_last_rows_is_cut() -> None:
    whole = np.asarray(photo())
    black = whole.copy()
    black[200:] = 0
    assert examine(encoded(Image.fromarray(black), "PNG")).fault == ""
    stream = io.BytesIO()
    Image.fromarray(whole[:120]).save(stream, "PNG")
    short = stream.getvalue()
    header = b"IHDR" + (320).to_bytes(4, "big") + (240).to_bytes(4, "big") + short[24:29]
    content = short[:12] + header + zlib.crc32(header).to_bytes(4, "big") + short[33:]
    found = examine(content)
    assert (found.fault, found.fault_text) == (
        "truncated",
        "the file is cut short (the compressed data ends before the last row)",
    )


def test_harmless_warnings_are_findings_with_their_text(image_folder: MakeImages) -> None:
    folder = image_folder({"cat": 10, "dog": 10})
    (folder / "cat/odd.jpg").write_bytes(with_segment(jpeg(), bytes(5)))
    exif = b"\xff\xe1\x00\x16Exif\0\0II*\0\x08\0\0\0\x05\0\x0e\x01\x02\0"
    (folder / "dog/exif.jpg").write_bytes(with_segment(encoded(photo(1), "JPEG"), exif))
    found = {finding.kind: finding for finding in validate(folder, ValidateDataParams()).findings}
    assert found["decoder_warning"].severity == "warn"
    assert {*found["decoder_warning"].files} >= {"dog/exif.jpg"}
    assert "dog/exif.jpg (Corrupt EXIF data" in found["decoder_warning"].message


def test_one_class_of_damaged_files_fails(image_folder: MakeImages) -> None:
    folder = image_folder({"cat": 8, "dog": 8})
    for number in range(4):
        content = encoded(photo(number), "JPEG")
        (folder / f"dog/cut{number}.jpg").write_bytes(content[: len(content) * 35 // 100] + b"\xff\xd9")
    found = validate(folder, ValidateDataParams())
    assert found.verdict == "fail"
    assert found.failure().startswith("damaged: 4 bad images: dog/cut0.jpg (the decoder says: Corrupt JPEG data")
    assert validate(folder, ValidateDataParams(on_bad_image="drop")).verdict == "warn"


def test_sound_photos_say_nothing(shared: Path) -> None:
    files = [*sorted((shared / "data/hymenoptera").rglob("*.jpg"))[::8]]
    with hearing():
        found = [examine(file.read_bytes()) for file in files]
    assert {(one.fault, one.warning) for one in found} == {("", "")}


def test_one_limit_of_pixels_for_all_who_decode(image_folder: MakeImages, tmp_path: Path) -> None:
    """The remedy of a decompression bomb works in the steps after validation, too."""
    folder = image_folder({"cat": 8, "dog": 8}, size=40)
    strict = validate(folder, ValidateDataParams(max_pixels=1599))
    assert strict.findings[0].kind == "decompression_bomb"
    assert "raise validate_data.max_pixels" in strict.findings[0].remedy
    dataset = validate(folder, ValidateDataParams(max_pixels=1600)).write(tmp_path / "dataset")
    assert dataset.spec.max_pixels == 1600
    content = dataset.image(0)
    assert Transform(size=8, max_pixels=dataset.spec.max_pixels).pixels(content).shape == (3, 8, 8)
    with pytest.raises(ImageError, match="more than the 1,599 allowed"):
        Transform(size=8, max_pixels=1599).pixels(content)
