"""Masks and objects over the Open Inference Protocol (V2) of MLServer, as KServe answers."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from graft.decoders.mask_bundle import MaskBundle
from graft.detectors.detector_bundle import DetectorBundle
from graft.masks.mask_file import read_mask
from graft.objects.run_length import RunLength
from graft.tasks.pixels import Kind
from tests.support.drawn_masks import noise, shapes
from tests.support.packed_pixels import LABELS, pack_untrained_pixels
from tests.support.v2_server import Served, ask, mlserver_environment, v2_serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mlserver_environment(tmp_path_factory.mktemp("mlserver"))


@pytest.fixture(scope="module")
def photos() -> list[bytes]:
    """Two photos of different sizes."""
    found = []
    for number, size in enumerate([(80, 60), (48, 64)]):
        content = io.BytesIO()
        shapes(noise(size, number), number)[0].save(content, "PNG")
        found.append(content.getvalue())
    return found


def served(kind: Kind, environment: Path, photos: list[bytes], folder: Path) -> Iterator[tuple[Served, Path]]:
    pack_untrained_pixels(kind, folder, photos[0])
    with v2_serving(environment, folder / "model", folder) as found:
        yield found, folder / "bundle"


@pytest.fixture(scope="module")
def masks(
    environment: Path, photos: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Served, Path]]:
    yield from served("segment", environment, photos, tmp_path_factory.mktemp("masks"))


@pytest.fixture(scope="module")
def objects(
    environment: Path, photos: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Served, Path]]:
    yield from served("instances", environment, photos, tmp_path_factory.mktemp("objects"))


def as_text(photos: list[bytes]) -> list[str]:
    return [base64.b64encode(photo).decode() for photo in photos]


def test_a_mask_is_a_png_at_the_photos_own_size(masks: tuple[Served, Path], photos: list[bytes]) -> None:
    server, bundle = masks
    status, found = ask(server.http, as_text(photos))
    assert status == 200, found
    for at, expected in enumerate(MaskBundle.load(bundle).answers(photos)):
        mask = read_mask(base64.b64decode(found["mask"][at])).values
        assert mask.shape == expected.mask.shape
        assert (mask != expected.mask).mean() < 0.002
        assert found["share"][at] == pytest.approx(dict(zip(LABELS, expected.share, strict=True)), abs=2e-3)
        assert found["predicted_iou"][at] == pytest.approx(expected.predicted_iou, abs=1e-3)


def test_objects_have_boxes_scores_and_cocos_codes(objects: tuple[Served, Path], photos: list[bytes]) -> None:
    server, folder = objects
    status, found = ask(server.http, as_text(photos))
    assert status == 200, found
    bundle = DetectorBundle.load(folder)
    for at, expected in enumerate(bundle.answers(photos)):
        height, width = int(found["height"][at]), int(found["width"][at])
        assert (width, height) == [(80, 60), (48, 64)][at]
        assert len(expected) > 1
        assert found["labels"][at] == [bundle.spec.labels[one.label] for one in expected]
        assert found["scores"][at] == pytest.approx([one.score for one in expected], abs=1e-4)
        np.testing.assert_allclose(found["boxes"][at], [one.box for one in expected], atol=1e-2)
        for counts, one in zip(found["masks"][at], expected, strict=True):
            assert (RunLength(height, width, counts).mask() != one.code.mask()).mean() < 0.01


@pytest.mark.parametrize("kind", ["masks", "objects"])
def test_a_bad_photo_is_a_400_that_names_the_row(
    kind: str, photos: list[bytes], request: pytest.FixtureRequest
) -> None:
    server, _ = request.getfixturevalue(kind)
    status, found = ask(server.http, [as_text(photos)[0], "bm8gaW1hZ2U="])
    assert status == 400
    assert "row 1: " in found["error"]
