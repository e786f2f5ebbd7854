"""Shortcuts: a label that file properties predict is found, and content that makes files larger is not."""

import numpy as np
import pandas as pd

from graft.quality.shortcut_features import find_shortcut


def images(n: int = 240, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "label": generator.choice(["a", "b", "c"], n),
            "group": [f"image {number}" for number in range(n)],
            "width": generator.integers(200, 400, n).astype(float),
            "height": generator.integers(200, 400, n).astype(float),
            "format": "JPEG",
            "mode": "RGB",
            "quantisation": 10.0,
            "frame": -1.0,
            **{name: generator.uniform(0.2, 0.8, n) for name in ("contrast", "sharpness", "brightness", "saturation")},
            "entropy": generator.uniform(5, 8, n),
        }
    )
    frame["aspect"] = frame[["width", "height"]].max(axis=1) / frame[["width", "height"]].min(axis=1)
    frame["bytes"] = (
        frame["width"] * frame["height"] * np.exp(frame["entropy"] - 8) * generator.uniform(0.9, 1.1, n)
    ).astype(int)
    return frame


def above(frame: pd.DataFrame) -> float:
    found = find_shortcut(frame, seed=0)
    assert found is not None
    assert 0 <= found.low <= found.accuracy <= found.high <= 1
    return found.above_chance


def test_without_varying_properties_there_is_no_shortcut() -> None:
    assert above(images()) < 0.1


def test_detail_that_takes_bytes_is_not_a_shortcut() -> None:
    frame = images()
    detailed = frame["label"] == "a"
    frame.loc[detailed, "bytes"] = (frame.loc[detailed, "bytes"] * np.e).astype(int)
    frame.loc[detailed, "entropy"] += 1
    assert above(frame) < 0.25


def test_each_planted_shortcut_is_found_and_named() -> None:
    for column, value, name in (
        ("format", "PNG", "format"),
        ("quantisation", 25.0, "compression"),
        ("frame", 0.0, "uniform border"),
        ("width", 900.0, "width"),
    ):
        frame = images()
        frame.loc[frame["label"] == "a", column] = value
        found = find_shortcut(frame, seed=0)
        assert found is not None
        assert found.above_chance > 0.25, column
        assert name in found.properties, (column, found.properties)


def test_too_few_images() -> None:
    assert find_shortcut(images(30), seed=0) is None
    assert find_shortcut(images().assign(label="a"), seed=0) is None


def test_files_all_alike() -> None:
    frame = images().assign(width=10.0, height=10.0, aspect=1.0, bytes=100, entropy=1.0)
    frame[["contrast", "sharpness", "brightness", "saturation"]] = 0.5
    found = find_shortcut(frame, seed=0)
    assert found is not None
    assert found.accuracy == found.chance


def test_a_group_of_images_is_no_shortcut() -> None:
    """Each video has its own size: a forest that has seen one frame knows the others, which helps with no new video."""
    frame = images(480)
    video = np.repeat(np.arange(24), 20)
    generator = np.random.default_rng(0)
    frame["group"] = [f"video {number}" for number in video]
    frame["label"] = generator.choice(["a", "b", "c"], 24)[video]
    frame["width"] = generator.integers(200, 400, 24)[video].astype(float)
    assert above(frame) <= 0
    assert above(frame.assign(group=[f"image {number}" for number in range(480)])) > 0.5
