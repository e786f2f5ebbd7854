"""Inference is streamed: features are not kept after they are scored."""

from pathlib import Path

import numpy as np
import pytest

from graft.models import inference
from graft.models.inference import logits_and_distances
from graft.stats.ood import fit_ood
from tests.support.tiny import bundle_of, small_dataset


@pytest.mark.parametrize("at_once", [1, 20, 512])
def test_logits_and_distances_are_those_of_all_images_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    dataset = small_dataset(tmp_path / "dataset")
    bundle, reader = bundle_of(dataset), dataset.reader()
    logits, features = bundle.logits_and_features(list(reader))
    detector = fit_ood(features, dataset.targets(), len(dataset.classes))
    monkeypatch.setattr(inference, "SCORED_AT_ONCE", at_once)
    said, ood = logits_and_distances(bundle, detector, reader, "test", len(dataset))
    np.testing.assert_array_equal(said, logits)
    np.testing.assert_allclose(ood, detector.distances(features), rtol=1e-9)
    assert not logits_and_distances(bundle, None, reader, "test", len(dataset))[1].any()
