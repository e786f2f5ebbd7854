"""Which classes the source knows: by unambiguous name or by the parameters; and how well it predicts them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.backbones.feature_store import FeatureSpec, FeatureStore, write_features
from graft.backbones.pretrained_classifier import NoSource, SourceClassifier
from graft.core.errors import ModelError, ParamsError
from graft.heads.label_overlap import Overlap, find_overlap, match_classes, starting_rows, zero_shot
from graft.params.train_head import TrainHeadParams
from tests.support.source_classifier import source_classifier

KNOWN = source_classifier(
    ("ant", "emmet"), ("bee",), ("sports car", "sport car"), ("crane",), ("daisy",), ("crane",), ("bus",)
)


def write_store(
    folder: Path, known: SourceClassifier | NoSource, classes: tuple[str, ...], n: int = 80
) -> FeatureStore:
    """Features from which the source predicts the first outputs, one per class, mostly correctly."""
    targets = np.arange(n) % len(classes)
    table = pd.DataFrame(
        {
            "id": [f"{i:064x}" for i in range(n)],
            "path": [f"{i}.png" for i in range(n)],
            "label": [classes[target] for target in targets],
            "split": [("train", "train", "val", "test")[i // len(classes) % 4] for i in range(n)],
            "group": [str(i) for i in range(n)],
        }
    )
    spec = FeatureSpec(
        backbone={"groups": ["a", "b"], "widths": [3, 4]},
        operations=1,
        fingerprint="f",
        dataset_digest="d",
        classes=classes,
    )
    generator = np.random.default_rng(0)
    first, last = write_features(folder, spec, table)
    first[:] = generator.normal(0, 1, first.shape)
    weight = known.weight if isinstance(known, SourceClassifier) else np.eye(len(classes), 4)
    last[:] = 1.5 * weight[targets] + generator.normal(0, 1, last.shape)
    for tap in (first, last):
        tap.flush()  # type: ignore[attr-defined]
    (folder / "backbone").mkdir()
    known.save(folder / "backbone")
    return FeatureStore.read(folder)


@pytest.mark.parametrize(
    ("name", "output"),
    [
        *(("ant", 0), ("Ants", 0), ("EMMET", 0), ("bees", 1), ("sports_cars", 2), ("Sports Car", 2), ("sport car", 2)),
        *(("daisies", 4), ("buses", 6), ("ant, emmet", 0)),
        *(("crane", None), ("cranes", None), ("wasp", None), ("car", None), ("be", None)),
    ],
)
def test_a_class_is_found_by_its_name_if_it_is_unambiguous(name: str, output: int | None) -> None:
    assert match_classes([name, "wasp"], KNOWN, {}) == ({} if output is None else {name: (output,)})


def test_two_classes_that_match_the_same_label_are_left_out() -> None:
    assert match_classes(["ant", "ants", "bee"], KNOWN, {}) == {"bee": (1,)}
    assert match_classes(["ant", "ants", "bee"], KNOWN, {"ants": "emmet"}) == {"ants": (0,), "bee": (1,)}


def test_given_labels_take_precedence() -> None:
    found = match_classes(
        ["x", "crane", "bee", "ant"], KNOWN, {"x": ("sport car", "Bus"), "crane": "crane (5)", "bee": ()}
    )
    assert found == {"x": (2, 6), "crane": (5,), "ant": (0,)}
    assert Overlap(KNOWN, found).labels == {"x": ("sports car", "bus"), "crane": ("crane (5)",), "ant": ("ant",)}


@given(st.text("abc_ sE", min_size=1, max_size=8), st.lists(st.text("abcse", min_size=1, max_size=6), max_size=4))
def test_no_class_has_more_than_one_label_and_no_label_more_than_one_class(name: str, others: list[str]) -> None:
    known = source_classifier(*((other,) for other in others or ["x"]))
    classes = list(dict.fromkeys([name, *others]))
    found = match_classes(classes, known, {})
    outputs = [output for some in found.values() for output in some]
    assert len(outputs) == len(set(outputs)) == len(found)
    assert set(found) <= set(classes)


@pytest.mark.parametrize(
    ("given_labels", "line"),
    [
        ({"antz": "ant"}, r"source_labels.antz: no class of the data; did you mean ants\?"),
        ({"ants": "amt"}, r"source_labels.ants='amt': no label of the source; did you mean ant"),
        ({"ants": ("bee", "zzz")}, r"source_labels.ants='zzz': no label of the source$"),
        ({"ants": "crane"}, r"ants='crane': the name of several labels: crane \(3\), crane \(5\)"),
    ],
)
def test_what_does_not_exist_is_one_clear_line(given_labels: dict[str, str], line: str) -> None:
    with pytest.raises(ParamsError, match=line) as error:
        match_classes(["ants", "bees"], KNOWN, given_labels)
    assert "\n" not in str(error.value)


def test_its_accuracy_is_of_training_and_validation_images_of_known_classes(tmp_path: Path) -> None:
    store = write_store(tmp_path, KNOWN, ("ants", "bees", "sports cars", "wasps"))
    overlap = find_overlap(store, TrainHeadParams())
    assert overlap is not None
    assert list(overlap.outputs) == ["ants", "bees", "sports cars"]
    scores = zero_shot(store, overlap)
    assert [(score.split, score.images) for score in scores] == [("train", 30), ("val", 15)]
    targets, rows = store.targets(), store.indices("train")
    rows = rows[targets[rows] < 3]
    logits = store.tap("b")[rows] @ KNOWN.weight[:3].T + KNOWN.bias[:3]
    assert scores[0].accuracy == pytest.approx((logits.argmax(1) == targets[rows]).mean())
    assert scores[0].low < scores[0].accuracy < scores[0].high


def test_one_known_class_alone_is_not_measured(tmp_path: Path) -> None:
    store = write_store(tmp_path, KNOWN, ("ants", "wasps"))
    overlap = find_overlap(store, TrainHeadParams())
    assert overlap is not None
    assert zero_shot(store, overlap) == []


def test_a_class_of_several_labels_is_as_probable_as_all_of_them(tmp_path: Path) -> None:
    # each half of the images of x looks like one of its two labels
    weight = 4 * np.eye(3, 4, dtype=np.float32)
    known = SourceClassifier((("bus",), ("bee",), ("cab",)), weight, np.zeros(3, np.float32))
    store = write_store(tmp_path, known, ("x", "bees"))
    features = np.load(tmp_path / "taps" / "01-b.npy", mmap_mode="r+")
    features[0::4] = weight[0]
    features[2::4] = weight[2]
    features[1::2] = weight[1]
    features.flush()
    overlap = find_overlap(store, TrainHeadParams(source_labels={"x": ("bus", "cab")}))
    assert overlap is not None
    assert [score.accuracy for score in zero_shot(store, overlap)] == [1.0, 1.0]


def test_the_start_is_the_sources_rows_about_their_mean() -> None:
    overlap = Overlap(KNOWN, {"ants": (0,), "both": (1, 2)})
    start = starting_rows(overlap, ("both", "wasps", "ants"))
    centred = KNOWN.weight - KNOWN.weight.mean(0)
    np.testing.assert_allclose(start.weight, [centred[[1, 2]].mean(0), np.zeros(4), centred[0]], atol=1e-6)
    features = np.random.default_rng(0).normal(0, 1, (9, 4)).astype(np.float32)
    ants = start.logits(features)[:, 2] - start.logits(features)[:, 1]
    whole = features @ KNOWN.weight.T + KNOWN.bias
    np.testing.assert_allclose(ants, whole[:, 0] - whole.mean(1), atol=1e-5)


def test_missing_labels_are_an_error_only_if_they_are_requested(tmp_path: Path) -> None:
    store = write_store(tmp_path / "none", NoSource("random weights know no labels"), ("ants", "bees"))
    assert find_overlap(store, TrainHeadParams()) is None
    for asked in (TrainHeadParams(init="source_labels"), TrainHeadParams(source_labels={"ants": "ant"})):
        with pytest.raises(ModelError, match="random weights know no labels"):
            find_overlap(store, asked)
    store = write_store(tmp_path / "other", KNOWN, ("x", "y"))
    assert find_overlap(store, TrainHeadParams()) is None
    with pytest.raises(ParamsError, match=r"the source has no label with the name of a class \(x, y, ...\)"):
        find_overlap(store, TrainHeadParams(init="source_labels"))
