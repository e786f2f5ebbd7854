"""The output layer of pretrained weights: written, read, with unambiguous names."""

from pathlib import Path

import numpy as np
import pytest

from graft.backbones.pretrained_classifier import NoSource, SourceClassifier, ZeroShot, describe_overlap
from graft.core.errors import ModelError
from tests.support.source_classifier import source_classifier


def test_round_trip(tmp_path: Path) -> None:
    written = source_classifier(("ant", "emmet"), ("bee",))
    written.save(tmp_path)
    read = SourceClassifier.read(tmp_path)
    assert read.names == written.names
    assert read.labels == ("ant", "bee")
    np.testing.assert_array_equal(read.weight, written.weight)
    np.testing.assert_array_equal(read.bias, written.bias)


def test_logits_of_some_outputs() -> None:
    known = source_classifier(("a",), ("b",), ("c",))
    features = np.random.default_rng(1).normal(0, 1, (5, 4)).astype(np.float32)
    whole = features @ known.weight.T + known.bias
    np.testing.assert_allclose(known.logits(features, [2, 0]), whole[:, [2, 0]], rtol=1e-6)


def test_labels_of_the_same_name_are_distinguished_by_their_number() -> None:
    assert source_classifier(("crane",), ("bee",), ("crane", "machine")).labels == ("crane (0)", "bee", "crane (2)")


def test_the_reason_for_a_missing_layer_is_saved(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no source classifier here \(source.json is missing\); extract again"):
        SourceClassifier.read(tmp_path)
    NoSource("random weights know no labels").save(tmp_path)
    with pytest.raises(ModelError, match=r"^random weights know no labels$"):
        SourceClassifier.read(tmp_path)


def test_zero_shot_accuracy_is_described() -> None:
    score = ZeroShot(split="val", images=49, accuracy=0.98, low=0.9, high=1.0)
    assert score.describe() == "right on 0.980 (0.900 to 1.000) of the 49 val images of these classes"


def test_the_overlap_is_described() -> None:
    labels = {f"c{number}": ("a", "b") for number in range(14)}
    assert describe_overlap({"ants": ("ant",), "x": ("bus", "cab")}) == "ants as ant, x as bus or cab"
    assert describe_overlap(labels, most=2) == "c0 as a or b, c1 as a or b, and 12 more"
