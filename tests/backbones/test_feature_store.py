"""FeatureStore: what is written is what is read; image size by rule."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.backbones.feature_store import FeatureSpec, FeatureStore, auto_image_size, write_features
from graft.core.atomic import read_json, write_json
from graft.core.errors import DataError, ModelError

BACKBONE = {
    "architecture": "resnet18",
    "library": "torchvision",
    "groups": ["stem", "layer1"],
    "widths": [3, 5],
    "channels_last": False,
    "transform": {"size": 32},
    "weights": {"source": "none", "sha256": None},
}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    table = pd.DataFrame({"label": ["b", "a", "b"], "split": ["train", "test", "train"]})
    spec = FeatureSpec(backbone_content=BACKBONE, fingerprint="f", operations=9, dataset_digest="d", classes=("a", "b"))
    for tap in write_features(tmp_path, spec, table):
        tap[:] = np.arange(tap.size).reshape(tap.shape)
    return tmp_path


def test_reads_what_was_written(written: Path) -> None:
    store = FeatureStore.read(written)
    assert len(store) == 3
    assert store.taps == ("stem", "layer1")
    assert store.spec.taps == {"stem": 3, "layer1": 5}
    assert np.array_equal(store.tap("layer1"), np.arange(15, dtype=np.float32).reshape(3, 5))
    assert store.tap("stem").dtype == np.float32
    assert not store.tap("stem").flags.writeable
    assert list(store.targets()) == [1, 0, 1]
    assert list(store.indices("train")) == [0, 2]
    assert list(store.indices("val")) == []
    assert store.spec.backbone.depth == "layer1"
    assert store.spec.backbone.transform.size == 32


def test_no_features_here(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no features here \(features.json is missing\); run extract_features$"):
        FeatureStore.read(tmp_path)


def test_features_of_another_format(written: Path) -> None:
    write_json(written / "features.json", {**read_json(written / "features.json"), "version": 9})
    with pytest.raises(DataError, match="features of format 9, expected 1; run extract_features again"):
        FeatureStore.read(written)


def test_unknown_tap(written: Path) -> None:
    with pytest.raises(ModelError, match=r"^'layer9' is not a group of the backbone; its groups are stem, layer1$"):
        FeatureStore.read(written).tap("layer9")


@pytest.mark.parametrize(("side", "size"), [(28, 96), (48, 96), (50, 128), (64, 128), (100, 224), (500, 1024)])
def test_auto_size_is_twice_the_median_shorter_side(side: int, size: int) -> None:
    assert auto_image_size(pd.DataFrame({"width": [side, 2 * side], "height": [3 * side, side]})) == size


@given(st.lists(st.tuples(st.integers(1, 4000), st.integers(1, 4000)), min_size=1, max_size=20))
def test_auto_size_fits_the_stride(sizes: list[tuple[int, int]]) -> None:
    size = auto_image_size(pd.DataFrame(sizes, columns=["width", "height"]))
    assert size >= 96
    assert size % 32 == 0
