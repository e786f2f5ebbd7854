"""What one request may ask of a server; a process that serves nothing is not limited."""

import pytest
from PIL import Image

from graft.imaging.transform import Transform
from graft.serving import limits
from graft.serving.limits import Admission, BusyError, Limits, TooLargeError
from tests.support.encoded import encoded

TRANSFORM = Transform(size=8)


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")


@pytest.fixture(scope="module")
def large() -> bytes:
    return encoded(Image.new("L", (2500, 2000)), "PNG")


def test_they_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("ROWS", "3"), ("BYTES", "-1"), ("PIXELS", "x"), ("DECODERS", "0")):
        monkeypatch.setenv(f"GRAFT_SERVE_{name}", text)
    assert Limits.from_environment() == Limits(rows=3)


def test_too_many_rows_and_bytes(serving: None) -> None:
    admission = Admission(Limits(rows=2, request_bytes=10))
    admission.check([b"12345", b"12345"])
    with pytest.raises(TooLargeError, match="3 images in one request, more than the 2 allowed"):
        admission.check([b""] * 3)
    with pytest.raises(TooLargeError, match="11 bytes of images, more than the 10 allowed"):
        admission.check([b"12345", b"123456"])


def test_the_servers_own_limit_of_pixels(serving: None, large: bytes) -> None:
    with Admission(Limits(pixels=100)).decoding(large, TRANSFORM) as limited:
        assert limited.max_pixels == 100


def test_large_images_wait_for_their_turn(serving: None, large: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PATIENCE_SECONDS", 0.01)
    admission, small = Admission(Limits(decoders=1)), encoded(Image.new("L", (20, 20)), "PNG")
    with admission.decoding(large, TRANSFORM):
        with pytest.raises(BusyError, match="busy with large images"), admission.decoding(large, TRANSFORM):
            pass
        with admission.decoding(small, TRANSFORM):
            pass
    with admission.decoding(large, TRANSFORM):
        pass


def test_without_a_server_nothing_waits(large: bytes) -> None:
    admission = Admission(Limits(rows=1, decoders=1))
    admission.check([b""] * 5)
    with admission.decoding(large, TRANSFORM) as first, admission.decoding(large, TRANSFORM) as second:
        assert first is second is TRANSFORM
