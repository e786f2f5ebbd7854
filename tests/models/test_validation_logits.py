"""Logits find their images by content, whatever order a dataset lists them in."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from graft.core.errors import ModelError
from graft.models.validation_logits import ValidationLogits

IDS = ("c" * 8, "a" * 8, "b" * 8)
LOGITS = np.arange(6, dtype=np.float32).reshape(3, 2)


def test_the_order_of_the_images_does_not_matter(tmp_path: Path) -> None:
    ValidationLogits.of(IDS, LOGITS).save(tmp_path)
    found = ValidationLogits.load(tmp_path)
    assert found is not None
    np.testing.assert_array_equal(found.aligned(IDS), LOGITS)
    np.testing.assert_array_equal(found.aligned(sorted(IDS)), LOGITS[[1, 2, 0]])


def test_other_images_are_refused(tmp_path: Path) -> None:
    stored = ValidationLogits.of(IDS, LOGITS)
    for ids in (IDS[:2], (*IDS[:2], "d" * 8)):
        with pytest.raises(ModelError, match="of other images than the validation images of this dataset"):
            stored.aligned(ids)
    (tmp_path / "validation.safetensors").write_bytes(safetensors.numpy.save({"logits": LOGITS}))
    with pytest.raises(ModelError, match="without the ids of its images; train the model again"):
        ValidationLogits.load(tmp_path)
    assert ValidationLogits.load(tmp_path / "nothing") is None
