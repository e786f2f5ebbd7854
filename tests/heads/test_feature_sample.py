"""A sample of features: one image per group, evenly spaced, the same after loading."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from graft.core.errors import ModelError
from graft.core.row_blocks import MappedRows
from graft.heads.feature_sample import SAMPLE_FILE, SAMPLE_IMAGES, FeatureSample, sample_rows

FEATURES = np.random.default_rng(0).normal(0, 1, (600, 5)).astype(np.float32)


def test_a_group_counts_once() -> None:
    groups = np.array([f"g{number // 3}" for number in range(30)])
    assert sample_rows(groups).tolist() == list(range(0, 30, 3))


def test_many_images_are_thinned_out_evenly() -> None:
    rows = sample_rows(np.arange(600))
    assert len(rows) == SAMPLE_IMAGES
    assert (rows[0], rows[-1]) == (0, 599)
    assert set(np.diff(rows)) <= {2, 3}


def test_rows_in_memory_and_mapped_are_sampled_alike(tmp_path: Path) -> None:
    groups, rows = np.arange(400), np.arange(100, 500)
    mapped = FeatureSample.of(MappedRows((FEATURES,), rows), groups)
    made = FeatureSample.of(FEATURES[rows], groups)
    np.testing.assert_array_equal(made.features, mapped.features)
    made.save(tmp_path)
    read = FeatureSample.load(tmp_path, 5)
    assert read is not None
    np.testing.assert_array_equal(read.features, made.features)


def test_foreign_and_broken_files_are_one_clear_line(tmp_path: Path) -> None:
    assert FeatureSample.load(tmp_path, 5) is None
    FeatureSample(FEATURES[:9]).save(tmp_path)
    with pytest.raises(ModelError, match=r"sample\.safetensors: of \(9, 5\), expected 6 finite features; train"):
        FeatureSample.load(tmp_path, 6)
    (tmp_path / SAMPLE_FILE).write_bytes(safetensors.numpy.save({"features": np.full((2, 5), np.nan, np.float32)}))
    with pytest.raises(ModelError, match="expected 5 finite features"):
        FeatureSample.load(tmp_path, 5)
    (tmp_path / SAMPLE_FILE).write_bytes(b"cut short")
    with pytest.raises(ModelError, match=r"not readable \(.*\); train the model again"):
        FeatureSample.load(tmp_path, 5)
