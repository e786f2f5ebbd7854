"""Two-sample tests: real differences are found, and equal sources show no shift."""

import numpy as np
import pandas as pd
import pytest

from graft.quality.dataset_shift import STATISTICS, category_shift, classifier_shift, embedding_shift, picture_shift

BETWEEN = ("train", "test")


def names(n: int, start: int = 0) -> np.ndarray:
    """Return a group of its own for each image."""
    return np.array([f"image {number}" for number in range(start, start + n)])


def statistics(n: int, seed: int, brighter: float = 0.0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    frame = pd.DataFrame({name: generator.uniform(0.3, 0.6, n) for name in STATISTICS})
    frame["width"], frame["height"] = generator.integers(200, 400, n), generator.integers(200, 400, n)
    frame["brightness"] += brighter
    frame["group"] = names(n, 1000 * seed)
    return frame


def column(about: str, values: list[str], start: int = 0) -> pd.DataFrame:
    return pd.DataFrame({about: values, "group": names(len(values), start)})


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
    few = column("label", ["a"] * 19, 1000)
    assert category_shift("label", column("label", ["a", "b"] * 50), few, BETWEEN, seed=0) is None
    many = column("id", [str(n) for n in range(60)])
    assert category_shift("id", many, column("id", ["0"] * 60, 1000), BETWEEN, seed=0) is None
    four_videos = statistics(120, 1).assign(group=np.repeat([f"video {n}" for n in range(4)], 30))
    assert picture_shift(statistics(200, 0), four_videos, BETWEEN, seed=0) is None


@pytest.mark.parametrize("seed", range(4))
def test_shares_of_a_column(seed: int) -> None:
    generator = np.random.default_rng(seed)
    first = column("domain", generator.choice(["day", "night"], 300).tolist())
    alike = column("domain", generator.choice(["day", "night"], 200).tolist(), 1000)
    darker = column("domain", generator.choice(["day", "night"], 200, p=[0.1, 0.9]).tolist(), 1000)
    same = category_shift("domain", first, alike, BETWEEN, seed=0)
    other = category_shift("domain", first, darker, BETWEEN, seed=0)
    assert same is not None
    assert other is not None
    assert same.low < 0.55
    assert other.low > 0.6
    assert other.differences[0] in {text for text in other.differences if "against" in text}


def test_embeddings() -> None:
    generator = np.random.default_rng(0)
    near, far = generator.normal(size=(150, 16)), generator.normal(size=(100, 16))
    groups = names(150), names(100, 1000)
    assert embedding_shift(near, far, groups, BETWEEN, 0, "features").low < 0.55
    far[:, 3] += 3
    assert embedding_shift(near, far, groups, BETWEEN, 0, "features").low > 0.8


def test_only_rows_that_the_forest_uses_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graft.quality.two_sample_forest.MAX_ROWS", 200)
    features = np.random.default_rng(0).normal(size=(900, 4))
    groups = names(850), names(50, 1000)
    read: list[np.ndarray] = []

    def reader(rows: np.ndarray) -> np.ndarray:
        read.append(rows)
        return features[rows]

    found = classifier_shift(reader, groups, BETWEEN, 0, "features")
    assert found == embedding_shift(features[:850], features[850:], groups, BETWEEN, 0, "features")
    assert len(read[0]) == 200
    assert (np.diff(read[0]) > 0).all()
    assert (read[0] >= 850).sum() == 50, "all of the smaller set"


def videos(number: int, frames: int, generator: np.random.Generator, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return features and groups of videos whose frames resemble each other."""
    of_frame = np.repeat(np.arange(number), frames)
    features = generator.normal(size=(number, 6))[of_frame] + 0.3 * generator.normal(size=(number * frames, 6))
    return features, np.array([f"video {one}" for one in of_frame + start])


def test_frames_of_videos_are_held_out_together() -> None:
    generator = np.random.default_rng(0)
    train, of_train = videos(24, 20, generator)
    test, of_test = videos(8, 20, generator, 24)
    found = embedding_shift(train, test, (of_train, of_test), BETWEEN, 0, "features")
    assert found.low < 0.5 < found.high
    alone = embedding_shift(train, test, (names(480), names(160, 1000)), BETWEEN, 0, "features")
    assert alone.low > 0.9, "a forest that has seen a video recognises its frames"
    other = embedding_shift(train, test + 3, (of_train, of_test), BETWEEN, 0, "features")
    assert other.low > 0.8


def test_values_of_a_column_are_counted_on_other_groups() -> None:
    groups = np.repeat([f"video {n}" for n in range(30)], 20)
    frame = pd.DataFrame({"camera": groups, "group": groups})
    found = category_shift("camera", frame[:400], frame[400:], BETWEEN, seed=0)
    assert found is not None
    assert found.low < 0.5 < found.high, "a camera of each video says nothing about other videos"
