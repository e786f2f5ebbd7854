"""Extraction shared among workers: whatever their number, the features are those of one."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.extract_features.step import extract_features, extract_shard
from graft.backbones.feature_store import FeatureStore
from graft.backbones.shards import ShardParams, join_parts, rows_of_shard
from graft.core.checksums import SUMS_FILE
from graft.core.errors import DataError
from graft.data.dataset import ImageDataset
from graft.params.extract_features import ExtractFeaturesParams
from graft.runs.run_log import SilentLog
from tests.support.pictures import picture

ROOT = Path(__file__).resolve().parents[2]
QUICK = {"weights": "none", "image_size": 32, "backend": "torch", "batch_size": 4, "workers": 2}
IMAGES = 45


@pytest.fixture
def dataset(tmp_path: Path, image_dataset: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images with an exact duplicate far apart, and an empty cache."""
    monkeypatch.setenv("GRAFT_CACHE", "off")
    contents = []
    for number in [*range(IMAGES - 1), 1]:
        file = tmp_path / "picture.png"
        picture(number % 5, number).save(file)
        contents.append(file.read_bytes())
    return image_dataset(contents)


def part(dataset: Path, folder: Path, shard: int, shards: int, **params: Any) -> Path:
    section = ShardParams.model_validate({**QUICK, **params, "shard": shard, "shards": shards})
    extract_shard(dataset, folder, section, SilentLog())
    return folder


def parts(dataset: Path, folder: Path, shards: int, **params: Any) -> list[Path]:
    return [part(dataset, folder / str(shard), shard, shards, **params) for shard in range(shards)]


def whole(dataset: Path, folder: Path, made: list[Path] | tuple[()] = ()) -> tuple[FeatureStore, dict[str, Any]]:
    section = ExtractFeaturesParams.model_validate(QUICK)
    metrics = extract_features(dataset, folder, section, SilentLog(), made)
    return FeatureStore.read(folder), dict(metrics)


def files(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file() and file.name != SUMS_FILE  # a step adds it; a plain call does not
    }


@given(st.lists(st.integers(0, 30).map(str), max_size=60), st.integers(1, 9), st.integers(1, 8))
def test_the_parts_are_all_images_once_in_complete_blocks(ids: list[str], shards: int, block: int) -> None:
    rows = [rows_of_shard(ids, shard, shards, block).tolist() for shard in range(shards)]
    together = [row for some in rows for row in some]
    assert together == [row for row, name in enumerate(ids) if name not in ids[:row]]
    sizes = [len(some) for some in rows]
    ends = np.cumsum(sizes)
    assert all(end % block == 0 for end in ends[ends < len(together)])
    assert max(sizes) - min(sizes) < 2 * block


@pytest.mark.slow
def test_identical_whatever_the_number_of_shards(dataset: Path, tmp_path: Path) -> None:
    _, metrics = whole(dataset, tmp_path / "whole")
    assert metrics["new_images"] == IMAGES - 1
    for shards in (1, 2, 7):
        made = parts(dataset, tmp_path / f"parts-{shards}", shards)
        _, joined = whole(dataset, tmp_path / f"joined-{shards}", made)
        assert files(tmp_path / f"joined-{shards}") == files(tmp_path / "whole")
        measured = {"images_per_second"}
        assert {name: joined[name] for name in joined if name not in measured} == {
            name: metrics[name] for name in metrics if name not in measured
        }


@pytest.mark.slow
def test_the_source_classifier_is_joined_too(dataset: Path, tmp_path: Path) -> None:
    made = parts(dataset, tmp_path / "parts", 2, weights="default")
    joined, _ = whole(dataset, tmp_path / "joined", made)
    extract_features(
        dataset, tmp_path / "whole", ExtractFeaturesParams.model_validate({**QUICK, "weights": "default"}), SilentLog()
    )
    assert files(tmp_path / "joined") == files(tmp_path / "whole")
    assert len(joined.source().labels) == 1000


def test_more_shards_than_batches(dataset: Path, tmp_path: Path) -> None:
    made = parts(dataset, tmp_path / "parts", 3, batch_size=32)
    assert sorted(len(list(one.iterdir())) for one in made)[0] == 1
    store, _ = whole(dataset, tmp_path / "joined", made)
    assert len(store) == IMAGES


def test_only_a_lost_part_is_extracted_again(dataset: Path, tmp_path: Path) -> None:
    made = parts(dataset, tmp_path / "parts", 3)
    before = files(tmp_path / "parts")
    shutil.rmtree(made[1])
    with pytest.raises(DataError, match="part 1 of 3 is missing"):
        join_parts(tmp_path / "joined", ImageDataset.read(dataset), [made[0], made[2]])
    part(dataset, made[1], 1, 3)
    after = files(tmp_path / "parts")
    differing = {name for name in before if before[name] != after[name]}
    assert differing <= {"1/part.json"}  # seconds


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"seed": 1}, "the parts are of different backbones"),
        ({"shards": 4}, "from different divisions"),
        ({"shard": 0}, "part 1 of 2 is missing"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(
    dataset: Path, tmp_path: Path, change: dict[str, int], line: str
) -> None:
    made = [
        part(dataset, tmp_path / "a", 0, 2),
        part(dataset, tmp_path / "b", change.get("shard", 1), change.get("shards", 2), seed=change.get("seed", 0)),
    ]
    with pytest.raises(DataError, match=line):
        join_parts(tmp_path / "joined", ImageDataset.read(dataset), made)


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [("backend", "openvino", "computed by openvino and torch"), ("dataset_digest", "0", "of another dataset")],
)
def test_parts_of_another_kind_are_refused(dataset: Path, tmp_path: Path, name: str, value: str, line: str) -> None:
    made = parts(dataset, tmp_path / "parts", 2)
    file = made[1] / "part.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {name: value}))
    with pytest.raises(DataError, match=line):
        join_parts(tmp_path / "joined", ImageDataset.read(dataset), made)


def test_there_is_no_part_beyond_the_last(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="part 2 of 2: no such part"):
        part(dataset, tmp_path / "part", 2, 2)


def test_workers_of_a_run_record_the_same_parameters() -> None:
    records = [ShardParams(shard=shard, shards=2).model_dump(mode="json") for shard in (0, 1)]
    assert records[0] == records[1] == ExtractFeaturesParams().model_dump(mode="json")


def test_joining_imports_no_torch(dataset: Path, tmp_path: Path) -> None:
    made = parts(dataset, tmp_path / "parts", 2)
    code = (
        "import sys, pathlib; from components.extract_features.step import extract_features;"
        "from graft.runs.run_log import SilentLog; from graft.params.extract_features import ExtractFeaturesParams;"
        f"base = pathlib.Path({str(tmp_path)!r}); extract_features(pathlib.Path({str(dataset)!r}), base / 'joined',"
        f" ExtractFeaturesParams(), SilentLog(), [pathlib.Path(one) for one in {[str(one) for one in made]!r}]);"
        "print(sorted({'torch', 'timm', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


DIES_ONCE = """
import os, pathlib, sys
here = pathlib.Path(__file__).parent
call = " ".join(sys.orig_argv)
if "executor_main" in call and "extract_shard" in call:
    import re
    shard = re.search(r'"shard": (\\d)', call)[1]
    earlier = len(list(here.glob(f"{shard}-*")))
    (here / f"{shard}-{earlier}").touch()
    if shard == "1" and not earlier:
        os._exit(1)
"""


@pytest.mark.slow
def test_a_worker_that_dies_is_started_again_alone(
    dataset: Path, tmp_path: Path, local_runner: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kfp import dsl
    from kfp.dsl.pipeline_context import Pipeline

    from pipelines.training import extract

    @dsl.pipeline(name="fanning")
    def fanning(params: dict) -> None:  # type: ignore[type-arg]
        images = dsl.importer(artifact_uri=str(dataset), artifact_class=dsl.Dataset).output
        extract(params, images, 3)
        Pipeline.get_default_pipeline().tasks["extract-shard"].set_retry(1)

    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(DIES_ONCE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), str(ROOT)]))
    fanning(params=QUICK)
    started = sorted(path.name for path in (tmp_path / "site").iterdir() if path.name[0].isdigit())
    assert started == ["0-0", "1-0", "1-1", "2-0"]
    (features,) = local_runner.glob("*/extract-features/features")
    whole(dataset, tmp_path / "whole")
    assert files(features) == files(tmp_path / "whole")
