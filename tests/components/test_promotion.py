"""The gate on real digits: a model that learned some wrong labels is refused, a better one is let through."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from graft.backbones.feature_store import FeatureStore
from graft.backbones.incremental import extract_into
from graft.core.digest import file_digest
from graft.data.dataset import ImageDataset, write_dataset
from graft.demo.demo_digits import write_demo
from graft.heads.depth_selection import choose_head
from graft.heads.head_inputs import prepare_head_inputs
from graft.models.bundle import ModelBundle
from graft.models.fit_head import fit_head
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.register_model import RegisterModelParams
from graft.params.train_head import TrainHeadParams
from graft.serving.evidence import Evidence
from graft.serving.registration import Registration, check_packed_model, register
from graft.serving.registry import CHALLENGER, CHAMPION, Registry
from tests.support.tiny import evaluated

PARAMS = RegisterModelParams(name="digits", max_milliseconds=60_000)
HEAD = TrainHeadParams(reuse_depth="blocks.4", head="linear", l2=1e-5, folds=2)
SHUFFLED = 0.1


def digits(folder: Path) -> ImageDataset:
    write_demo(folder / "images")
    files = sorted((folder / "images").rglob("*.png"))
    table = pd.DataFrame({"path": [file.relative_to(folder / "images").as_posix() for file in files]})
    table["label"], table["split"] = [file.parent.name for file in files], [file.parts[-3] for file in files]
    table.loc[(table["split"] == "train") & (table.index % 10 == 0), "split"] = "val"
    table["id"] = table["group"] = [file_digest(file, "sha256") for file in files]
    table = table.assign(domain="", format="PNG", mode="L", width=28, height=28, bytes=1000)
    return write_dataset(folder / "dataset", table, [file.read_bytes() for file in files], tuple("0123456789"))


def head_of(store: FeatureStore, shuffled: float) -> ModelBundle:
    table, generator = store.table.copy(), np.random.default_rng(0)
    train = np.flatnonzero(table["split"] == "train")
    wrong = generator.permutation(train)[: round(shuffled * len(train))]
    table.loc[wrong, "label"] = generator.permutation(table["label"].to_numpy()[wrong])
    inputs = prepare_head_inputs(dataclasses.replace(store, table=table), HEAD)
    return fit_head(inputs, choose_head(inputs, HEAD.reuse_depth, HEAD.head))


@pytest.mark.slow
def test_ten_per_cent_of_wrong_labels_are_refused_and_the_right_ones_promoted(tmp_path: Path, store: Path) -> None:
    dataset = digits(tmp_path)
    features = extract_into(tmp_path / "features", dataset, ExtractFeaturesParams()).store

    def registered(shuffled: float, name: str) -> Registration:
        bundle = head_of(features, shuffled)
        bundle.save(tmp_path / name / "model")
        evidence = Evidence.read(evaluated(dataset, bundle, tmp_path / name / "evaluation"), dataset)
        return register(Registry.open(PARAMS.name), bundle, tmp_path / name / "model", evidence, PARAMS, {})

    first = registered(SHUFFLED, "first")
    assert first.promoted, "there is nothing yet that it could be worse than"
    better = registered(0.0, "better")
    assert better.promoted
    assert better.against_champion.outcome == "better"
    worse = registered(SHUFFLED, "worse")
    assert not worse.promoted
    assert worse.version.aliases == (CHALLENGER,)
    assert worse.reasons[0].startswith("accuracy is not shown to be within 0.02 of champion version 2: difference -0.")

    registry = Registry.open(PARAMS.name)
    assert registry.champion() == registry.version(2)
    assert registry.rollback(check_packed_model).number == 1
    assert registry.version(1).aliases == (CHAMPION,)
    with registry.downloaded(registry.version(2)) as folder:
        (folder / "artifacts" / "bundle" / "bundle.json").write_text('{"version": 0}')
        assert check_packed_model(folder) < 1e-4, "a format of another day"
