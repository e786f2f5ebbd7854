"""TIFF bands are read exactly, in every layout."""

import io
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from graft.imaging import tiff
from tests.support.encoded import banded, encoded, paged

DTYPES = ("u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8")


def samples_of(dtype: str, height: int = 19, width: int = 45, bands: int = 6) -> np.ndarray:
    values = np.random.default_rng(0).normal(0, 1000, (height, width, bands))
    return (values if dtype[-2] == "f" else np.abs(values) if dtype[-2] == "u" else values).astype(dtype)


def read(content: bytes) -> np.ndarray:
    (page,) = tiff.pages(content)
    return tiff.read(content, page)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", "<>")
def test_every_type_in_both_byte_orders(dtype: str, order: str) -> None:
    samples = samples_of(order + dtype)
    for separate in (False, True):
        found = read(banded(samples, separate=separate))
        assert found.dtype == np.dtype(dtype)
        assert np.array_equal(found, samples)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    bands=st.integers(1, 9),
    dtype=st.sampled_from(["<u1", ">u2", "<i4"]),
    separate=st.booleans(),
    differences=st.booleans(),
    tile=st.sampled_from([None, (16, 16), (32, 16)]),
    squeezed=st.booleans(),
)
def test_every_layout(
    height: int,
    width: int,
    bands: int,
    dtype: str,
    separate: bool,
    differences: bool,
    tile: tuple[int, int] | None,
    squeezed: bool,
) -> None:
    samples = samples_of(dtype, height, width, bands)
    squeeze = {"compression": 8, "squeeze": zlib.compress} if squeezed else {}
    content = banded(samples, separate=separate, differences=differences, tile=tile, **squeeze)  # type: ignore[arg-type]
    assert np.array_equal(read(content), samples)


@pytest.mark.parametrize("method", ["tiff_lzw", "packbits", "tiff_adobe_deflate", "zstd"])
def test_compressions_of_libtiff(method: str) -> None:
    samples = samples_of("<u2", height=7)  # one strip
    numbers = {"tiff_lzw": 5, "packbits": 32773, "tiff_adobe_deflate": 8, "zstd": 50000}

    def squeeze(raw: bytes) -> bytes:
        grey = Image.frombytes("L", (len(raw) // 7, 7), raw)
        content = encoded(grey, "TIFF", compression=method)
        entries = Image.open(io.BytesIO(content)).tag_v2  # type: ignore[attr-defined]
        (start,), (size,) = entries[273], entries[279]
        return content[start : start + size]

    assert np.array_equal(read(banded(samples, compression=numbers[method], squeeze=squeeze)), samples)


def test_pages_in_order_without_reduced_ones() -> None:
    samples = samples_of("u1", bands=4)
    pages = tiff.pages(paged(samples))
    assert [(page.width, page.height, page.bands) for page in pages] == [(45, 19, 1)] * 4
    assert np.array_equal(np.concatenate([tiff.read(paged(samples), page) for page in pages], axis=2), samples)
    with pytest.raises(ValueError, match="no picture in it"):
        tiff.pages(banded(samples, more={254: 1}))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({259: 7}, "this compression is not supported for bands"),
        ({317: 3}, "this compression is not supported for bands"),
        ({262: 3}, "palette colours"),
        ({258: 12}, "samples that do not have 8, 16 or 32 bits"),
        ({339: 6}, "samples that do not have 8, 16 or 32 bits"),
    ],
)
def test_unsupported_samples_have_a_clear_error(change: dict[int, int], line: str) -> None:
    with pytest.raises(tiff.UnsupportedError, match=line):
        read(banded(samples_of("u1"), more=change))


def test_a_cycle_of_directories_ends() -> None:
    content = bytearray(banded(samples_of("u1")))
    start = int.from_bytes(content[4:8], "little")
    end = start + 2 + 12 * int.from_bytes(content[start : start + 2], "little")
    content[end : end + 4] = content[4:8]
    assert len(tiff.pages(bytes(content))) == 1
