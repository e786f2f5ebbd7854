"""Codes, areas, boxes, overlaps and polygons equal those of pycocotools."""

import numpy as np
import pytest
from pycocotools import mask as coco
from scipy import ndimage

from graft.objects.run_length import RunLength, decode_counts, encode, encode_counts, of_runs, overlaps, polygons


def blob(draws: np.random.Generator, height: int, width: int) -> np.ndarray:
    noise = ndimage.gaussian_filter(draws.normal(size=(height, width)), 2)
    return noise > np.quantile(noise, draws.uniform(0.3, 1.0))


def theirs(mask: np.ndarray) -> dict:
    return coco.encode(np.asfortranarray(mask.astype(np.uint8)))


@pytest.mark.parametrize("seed", range(20))
def test_codes_boxes_and_overlaps_are_those_of_pycocotools(seed: int) -> None:
    draws = np.random.default_rng(seed)
    height, width = (int(side) for side in draws.integers(5, 60, 2))
    masks = [blob(draws, height, width) for _ in range(6)]
    codes = [encode(mask) for mask in masks]
    expected = [theirs(mask) for mask in masks]
    for mask, code, other in zip(masks, codes, expected, strict=True):
        assert code.counts == other["counts"].decode()
        assert (code.mask() == mask).all()
        assert code.area == coco.area(other)
        assert code.box == tuple(coco.toBbox(other))
    crowd = [False, True, False]
    assert overlaps(codes, codes[:3], crowd) == pytest.approx(coco.iou(expected, expected[:3], crowd), abs=1e-12)


def test_masks_that_are_empty_full_or_of_one_pixel() -> None:
    for mask in (np.zeros((4, 3), bool), np.ones((4, 3), bool), np.eye(4, 3, dtype=bool)):
        code = encode(mask)
        assert code.counts == theirs(mask)["counts"].decode()
        assert (code.mask() == mask).all()
        assert code.box == tuple(coco.toBbox(theirs(mask)))


def test_a_mask_is_coded_from_its_columns_alone() -> None:
    mask = np.zeros((7, 12), bool)
    mask[2:6, 4:8] = True
    assert encode(mask[:, 3:9], left=3, width=12) == encode(mask)


def test_long_runs_and_runs_that_shrink_are_coded() -> None:
    runs = np.array([0, 1, 5_000_000, 31, 16, 15, 1_048_576, 1])
    assert decode_counts(encode_counts(runs)).tolist() == runs.tolist()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pycocotools and NumPy 2
@pytest.mark.parametrize("seed", range(20))
def test_polygons_are_drawn_as_pycocotools_draws_them(seed: int) -> None:
    draws = np.random.default_rng(seed)
    height, width = (int(side) for side in draws.integers(5, 80, 2))
    outlines = [
        (draws.uniform(-0.1, 1.1, (int(draws.integers(3, 9)), 2)) * [width, height]).ravel().tolist() for _ in range(2)
    ]
    expected = coco.decode(coco.merge(coco.frPyObjects(outlines, height, width)))
    assert (polygons(outlines, height, width).mask() == expected.astype(bool)).all()


def test_runs_of_another_size_are_refused() -> None:
    assert of_runs([2, 3, 7], 4, 3) == RunLength(4, 3, encode_counts(np.array([2, 3, 7])))
    with pytest.raises(ValueError, match="runs of 5 pixels for a mask of 4 x 3"):
        of_runs([2, 3], 4, 3)
