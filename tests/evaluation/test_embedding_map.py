"""The embedding map: neighbours stay neighbours, the same features give the same map, and its size has a limit."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from graft.evaluation.embedding_map import LEAST, MOST, TILE, TILES_A_ROW, embedding_map, placed, rows_on_map

COLOURS = np.random.default_rng(1).integers(0, 255, (1000, 3), dtype=np.uint8)


def tile(row: int) -> np.ndarray:
    return np.full((TILE, TILE, 3), COLOURS[row], dtype=np.uint8)


def clusters(images: int, width: int = 64) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    of = np.arange(images) % 5
    centres = generator.normal(size=(5, width)) * 3
    return of, (centres[of] + generator.normal(size=(images, width))).astype(np.float32)


def test_neighbours_in_the_features_are_neighbours_on_the_map() -> None:
    of, features = clusters(150)
    places = placed(features)
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (of[distances.argmin(axis=1)] == of).mean() > 0.98
    assert places.min() == 0.0
    assert places.max() == 1.0


def test_the_same_features_give_the_same_map_whatever_their_scale() -> None:
    _, features = clusters(60)
    assert np.array_equal(placed(features), placed(features))
    assert np.allclose(placed(features), placed(features * 8), atol=1e-4)


@pytest.mark.parametrize("features", [np.ones((20, 3)), np.arange(20.0)[:, None], np.zeros((20, 8))])
def test_equal_features_and_a_single_column_have_a_map(features: np.ndarray) -> None:
    places = placed(features.astype(np.float32))
    assert places.shape == (20, 2)
    assert np.isfinite(places).all()


def test_the_sheet_holds_the_pictures_in_the_order_of_the_rows() -> None:
    _, features = clusters(40)
    rows = np.arange(40) * 3
    found = embedding_map(features, rows, tile)
    assert found is not None
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(found.sheet.partition(",")[2]))))
    assert sheet.shape == (2 * TILE, TILES_A_ROW * TILE, 3)
    for place in (0, 29, 30, 39):
        middle = sheet[place // TILES_A_ROW * TILE + TILE // 2, place % TILES_A_ROW * TILE + TILE // 2]
        assert np.abs(middle.astype(int) - COLOURS[rows[place]]).max() < 12


def test_few_images_have_no_map() -> None:
    assert embedding_map(np.eye(LEAST - 1, dtype=np.float32), np.arange(LEAST - 1), tile) is None


def test_a_map_of_many_images_has_a_limit_and_keeps_what_is_wanted() -> None:
    wanted = np.arange(500, 600)
    rows = rows_on_map(100_000, wanted)
    assert len(rows) == MOST
    assert np.isin(wanted, rows).all()
    assert (np.diff(rows) > 0).all()
    assert len(np.intersect1d(rows_on_map(100_000, np.arange(5_000)), np.arange(5_000))) < MOST * 0.6
    assert np.array_equal(rows_on_map(30, [3]), np.arange(30))
