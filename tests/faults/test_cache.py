"""The caches lie, are damaged or full: results are those of a run without a cache, and what is damaged is remade."""

import random
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from graft.backbones import incremental
from graft.backbones.feature_store import FeatureStore
from graft.backbones.incremental import extract_into
from graft.core.errors import DamagedError, ModelError
from graft.data.dataset import ImageDataset
from graft.params.extract_features import ExtractFeaturesParams
from tests.faults.conftest import Count
from tests.support.small_disk import small_disk
from tests.support.striped import striped_dataset

PARAMS = ExtractFeaturesParams(backbone="mobilenet_v3_small", weights="none", image_size=32, batch_size=16)


@pytest.fixture
def dataset(tmp_path: Path) -> ImageDataset:
    return striped_dataset(tmp_path / "dataset")


def features(folder: Path, dataset: ImageDataset) -> list[bytes]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that something was thrown away
        store: FeatureStore = extract_into(folder, dataset, PARAMS).store
    return [np.asarray(store.tap(name)).tobytes() for name in store.taps]


def test_images_that_got_no_features_are_noticed(
    tmp_path: Path, dataset: ImageDataset, monkeypatch: pytest.MonkeyPatch, count: Count
) -> None:
    monkeypatch.setenv("GRAFT_CACHE", "off")
    plain = incremental._fill
    monkeypatch.setattr(incremental, "_fill", lambda *arguments: list(plain(*arguments))[:-1])
    with pytest.raises(ModelError, match=r"features of \d+ images were computed, but \d+ were to be"):
        features(tmp_path / "features", dataset)
    count("an image without features", 1, 1)


def test_a_damaged_cache_changes_nothing(
    tmp_path: Path, dataset: ImageDataset, monkeypatch: pytest.MonkeyPatch, count: Count, scale: int
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("GRAFT_CACHE", str(cache))
    clean = features(tmp_path / "clean", dataset)
    kept = tmp_path / "kept"
    shutil.copytree(cache, kept)
    generator, tried, survived = random.Random(0), 0, 0
    files = sorted(path.relative_to(kept) for path in kept.rglob("*") if path.is_file() and path.stat().st_size)
    for number in range(max(24 * scale, len(files))):
        shutil.rmtree(cache)
        shutil.copytree(kept, cache)
        file = cache / files[number % len(files)]
        content = bytearray(file.read_bytes())
        damage = ("flip", "cut", "empty", "remove")[number // len(files) % 4 if scale > 1 else number % 4]
        if file.name == "values.npy":
            damage = "flip"  # what no length or header gives away
        if damage == "flip":
            content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        file.unlink()
        if damage != "remove":
            file.write_bytes({"flip": bytes(content), "cut": bytes(content[: len(content) // 2]), "empty": b""}[damage])
        tried += 1
        survived += features(tmp_path / f"again{number}", dataset) == clean
        shutil.rmtree(tmp_path / f"again{number}")
    count("a damaged cache of features, backbones and converted models", tried, survived)


def test_an_image_that_is_not_what_its_id_says_is_refused(
    tmp_path: Path, dataset: ImageDataset, monkeypatch: pytest.MonkeyPatch, count: Count
) -> None:
    """So no wrong vector is filed under the id of another image."""
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "cache"))
    survived = 0
    for row in (0, 17, 95):
        image = dataset.image(row)
        file = next(shard for shard in dataset.path.rglob("*.arrow") if image in shard.read_bytes())
        content = file.read_bytes()
        at = content.index(image) + len(image) // 2
        file.unlink()
        file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(DamagedError, match=f"the image in row {row} differs"):
            features(tmp_path / f"features{row}", ImageDataset.read(dataset.path))
        file.write_bytes(content)
        survived += 1
    clean = features(tmp_path / "warm", ImageDataset.read(dataset.path))
    monkeypatch.setenv("GRAFT_CACHE", "off")
    assert features(tmp_path / "cold", ImageDataset.read(dataset.path)) == clean
    count("an image changed after validation", 3, survived)


def test_a_cache_without_room_costs_time_only(
    tmp_path: Path, dataset: ImageDataset, monkeypatch: pytest.MonkeyPatch, count: Count
) -> None:
    monkeypatch.setenv("GRAFT_CACHE", "off")
    clean = features(tmp_path / "clean", dataset)
    with small_disk(tmp_path / "disk", 1) as disk:
        monkeypatch.setenv("GRAFT_CACHE", str(disk / "cache"))
        survived = features(tmp_path / "features", dataset) == clean
        survived += features(tmp_path / "again", dataset) == clean
    count("a full disk under the cache", 2, survived)
