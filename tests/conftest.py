"""Fixtures for several test files: shared data, MLflow stores, small image folders, a packed model."""

import builtins
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.once import made_once
from tests.support.pictures import MakeImages, picture

if TYPE_CHECKING:
    from tests.support.finished_run import FinishedRun

ROOT = Path(__file__).resolve().parents[1]

# Third-party libraries read these at import; a test that needs other values sets them with monkeypatch.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DVC_NO_ANALYTICS", "1")
os.environ.setdefault("GX_ANALYTICS_ENABLED", "False")
# Tests run in parallel and their tensors are tiny: synchronising threads would take ten times as long as the work.
os.environ.setdefault("OMP_NUM_THREADS", "1")

PRINT = builtins.print


@pytest.fixture(scope="session")
def root() -> Path:
    """Root folder of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Third-party data and weights beside the repository (or at GRAFT_SHARED); skips the test if missing."""
    folder = Path(os.environ.get("GRAFT_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no shared data at {folder} (set GRAFT_SHARED to the folder that holds data/ and weights/)")
    return folder


@pytest.fixture(scope="session")
def session_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """URI of an MLflow store that all tests of this worker may write to: creating one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlruns')}/mlflow.db"


@pytest.fixture(scope="module", autouse=True)
def stores_of_the_module(session_store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep fixtures that last longer than a test away from the repository's MLflow store and cache.

    They run before `no_outside_store`. Made-up image ids in a cache that others use as well are answered with another
    test's features.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", session_store)
        patch.setenv("GRAFT_CACHE", str(tmp_path_factory.mktemp("graft-cache")))
        yield


@pytest.fixture(autouse=True)
def no_outside_store(session_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests away from the repository's MLflow store and cache, and from pipeline runs that they did not start.

    A test that counts runs or models uses its own `store`.
    """
    monkeypatch.setenv("MLFLOW_TRACKING_URI", session_store)
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "graft-cache"))
    for name in (
        "MLFLOW_RUN_ID",
        "MLFLOW_EXPERIMENT_ID",
        "MLFLOW_EXPERIMENT_NAME",
        "GRAFT_PIPELINE_RUN",
        "DVC_EXP_NAME",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def own_print(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore Python's own print for every test: KFP's local runner replaces it, and parallel tasks may leave that."""
    monkeypatch.setattr(builtins, "print", PRINT)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with empty tables: creating one takes seconds, copying it is instant."""
    from graft.runs.mlflow_store import open_client

    folder = made_once(tmp_path_factory, "store", lambda place: open_client(f"sqlite:///{place}/mlflow.db"))
    return folder / "mlflow.db"


@pytest.fixture
def store(empty_store: Path, tmp_path: Path, no_outside_store: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own database; `MLFLOW_TRACKING_URI` points to it."""
    database = tmp_path / "mlruns" / "mlflow.db"
    database.parent.mkdir(exist_ok=True)
    shutil.copy(empty_store, database)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    return database


@pytest.fixture
def image_folder(tmp_path: Path) -> MakeImages:
    """Make a folder of small learnable PNG images, in class folders or in split folders with class folders.

    image_folder({"cat": 12, "dog": 12}); image_folder({"train": {"cat": 8, "dog": 8}, "test": {"cat": 4, "dog": 4}})
    """

    def make(counts: Mapping[str, int | Mapping[str, int]], name: str = "images", size: int = 24) -> Path:
        folder = tmp_path / name
        splits = {key: value for key, value in counts.items() if isinstance(value, Mapping)} or {"": counts}
        for split_number, (split, classes) in enumerate(splits.items()):
            for label, (class_name, count) in enumerate(classes.items()):
                place = folder / split / class_name
                place.mkdir(parents=True, exist_ok=True)
                for number in range(count):
                    # The number is part of the seed of the noise: no two images are equal.
                    picture(label, 500 * split_number + number, size).save(place / f"{number:04d}.png")
        return folder

    return make


@pytest.fixture
def image_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Write file contents as an ImageDataset artifact; the labels are ant and bee in turn."""
    import pandas as pd

    from graft.data.dataset import write_dataset

    def make(contents: list[bytes], name: str = "dataset", width: int = 48, height: int = 40) -> Path:
        rows = range(len(contents))
        table = pd.DataFrame(
            {
                "id": [hashlib.sha256(content).hexdigest() for content in contents],
                "path": [f"{row}.png" for row in rows],
                "label": [("ant", "bee")[row % 2] for row in rows],
                "split": [("train", "train", "val", "test")[row // 2 % 4] for row in rows],
                "group": [str(row) for row in rows],
                "domain": "",
                "format": "PNG",
                "mode": "RGB",
                "width": width,
                "height": height,
                "bytes": [len(content) for content in contents],
            }
        )
        write_dataset(tmp_path / name, table, contents, ("ant", "bee"))
        return tmp_path / name

    return make


@pytest.fixture
def local_runner(tmp_path: Path) -> Path:
    """Let KFP run pipelines and components as local subprocesses; returns the pipeline root."""
    from kfp import local

    pipeline_root = tmp_path / "kfp"
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(pipeline_root))
    return pipeline_root


LONGEST = ("pipelines/test_end_to_end.py", "components/test_train_head.py", "finetune/test_staged.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run long files first: one at the end would keep one worker busy and the others waiting."""
    longest = {ROOT / "tests" / name for name in LONGEST}
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in longest, item.path not in slow))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files instead of comparing")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with the file of that name under tests/golden (with --update-golden: write it)."""

    def compare(name: str, text: str) -> None:
        file = ROOT / "tests" / "golden" / name
        if request.config.getoption("--update-golden"):
            file.write_text(text, encoding="utf-8")
        assert text == file.read_text(encoding="utf-8"), (
            f"{file.name} differs; if that is intended: make test PARAMS='tests --update-golden -k golden'"
        )

    return compare


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> "FinishedRun":
    """The artifacts of a whole pipeline on small pictures, and the store with its champion."""
    from tests.support.finished_run import FinishedRun, finish_run

    return FinishedRun(made_once(tmp_path_factory, "run", lambda folder: finish_run(folder, empty_store)))


@pytest.fixture(scope="session")
def packed_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow model of a small untrained network of three classes, packed as in the pipeline."""
    from tests.support.packed_model import pack_untrained

    return made_once(tmp_path_factory, "packed", pack_untrained) / "model"
