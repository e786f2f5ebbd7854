"""Two-sample tests: real differences are found, and equal sources show no shift."""

import numpy as np
import pandas as pd
import pytest

from graft.quality.dataset_shift import STATISTICS, category_shift, classifier_shift, embedding_shift, picture_shift

BETWEEN = ("train", "test")


def statistics(n: int, seed: int, brighter: float = 0.0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    frame = pd.DataFrame({name: generator.uniform(0.3, 0.6, n) for name in STATISTICS})
    frame["width"], frame["height"] = generator.integers(200, 400, n), generator.integers(200, 400, n)
    frame["brightness"] += brighter
    return frame


def test_one_source_shows_no_shift() -> None:
    found = picture_shift(statistics(200, 0), statistics(120, 1), BETWEEN, seed=0)
    assert found is not None
    assert found.low < 0.5 < found.high
    assert found.high - found.low < 0.2


def test_a_change_of_brightness_is_found_and_named() -> None:
    found = picture_shift(statistics(200, 0), statistics(120, 1, brighter=0.25), BETWEEN, seed=0)
    assert found is not None
    assert found.low > 0.8
    assert found.differences[0].startswith("brightness 0.4")


def test_the_result_is_repeatable() -> None:
    first, second = (picture_shift(statistics(90, 0), statistics(60, 1), BETWEEN, seed=3) for _ in range(2))
    assert first == second


def test_too_few_images_give_no_result() -> None:
    assert picture_shift(statistics(200, 0), statistics(19, 1), BETWEEN, seed=0) is None
    assert category_shift("label", ["a", "b"] * 50, ["a"] * 19, BETWEEN, seed=0) is None
    assert category_shift("id", [str(n) for n in range(60)], ["0"] * 60, BETWEEN, seed=0) is None


@pytest.mark.parametrize("seed", range(4))
def test_shares_of_a_column(seed: int) -> None:
    generator = np.random.default_rng(seed)
    first = generator.choice(["day", "night"], 300).tolist()
    same = category_shift("domain", first, generator.choice(["day", "night"], 200).tolist(), BETWEEN, seed=0)
    other = category_shift("domain", first, generator.choice(["day", "night"], 200, p=[0.1, 0.9]).tolist(), BETWEEN, 0)
    assert same is not None
    assert other is not None
    assert same.low < 0.55
    assert other.low > 0.6
    assert other.differences[0] in {text for text in other.differences if "against" in text}


def test_embeddings() -> None:
    generator = np.random.default_rng(0)
    near, far = generator.normal(size=(150, 16)), generator.normal(size=(100, 16))
    assert embedding_shift(near, far, BETWEEN, 0, "features").low < 0.55
    far[:, 3] += 3
    assert embedding_shift(near, far, BETWEEN, 0, "features").low > 0.8


def test_only_rows_that_the_forest_uses_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graft.quality.two_sample_forest.MAX_ROWS", 200)
    features = np.random.default_rng(0).normal(size=(900, 4))
    read: list[np.ndarray] = []

    def reader(rows: np.ndarray) -> np.ndarray:
        read.append(rows)
        return features[rows]

    found = classifier_shift(reader, (600, 300), BETWEEN, 0, "features")
    assert found == embedding_shift(features[:600], features[600:], BETWEEN, 0, "features")
    assert len(read[0]) == 200
    assert (np.diff(read[0]) > 0).all()
