"""A registered model whose files were changed in the store of artifacts is not served, promoted or predicted with."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from graft.core.checksums import SUMS_FILE, write_checksums
from graft.core.errors import GraftError
from graft.core.owners import this_process
from graft.runs import pipeline_runs, reused
from graft.runs.abandoned import PIPELINE_PROCESS
from graft.runs.mlflow_store import open_client
from graft.runs.registered_files import FILES_TAG
from graft.serving.adoption import PIPELINE_TAG
from graft.serving.loading import fetch_model, load_model
from graft.serving.registered_content import download_checked, packed_code_digest
from graft.serving.registry import Registry
from tests.faults.conftest import Count
from tests.support.finished_run import NAME, FinishedRun


@pytest.fixture
def stored(finished_run: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of the only version in a store of the test's own."""
    shutil.copy(finished_run.folder / "mlflow.db", tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    address = open_client().get_model_version_download_uri(NAME, "1")
    files = Path(address.removeprefix("file://"))
    copy = tmp_path / "files"
    shutil.copytree(files, copy)
    monkeypatch.setattr("mlflow.tracking.MlflowClient.get_model_version_download_uri", lambda *_: copy.as_uri())
    return copy


def changed_json(file: Path, change: Callable[[dict], None]) -> None:
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))


def add_code(folder: Path) -> None:
    (package,) = (folder / "code").glob("graft_*")
    (package / "core" / "extra.py").write_text("print('here')\n")


def change_code(folder: Path) -> None:
    (package,) = (folder / "code").glob("graft_*")
    file = package / "serving" / "server.py"
    file.write_text(file.read_text() + "\nLEFT = 1\n")


def exchange_labels(folder: Path) -> None:
    for file in ("network/serving.json", "bundle/bundle.json"):
        changed_json(folder / "artifacts" / file, lambda values: values["labels"].reverse())


def exchange_served_labels(folder: Path) -> None:
    changed_json(folder / "artifacts/network/serving.json", lambda values: values["labels"].reverse())


def negative_temperature(folder: Path) -> None:
    changed_json(folder / "artifacts/network/serving.json", lambda values: values.update(temperature=-1.0))


def other_weights(folder: Path) -> None:
    file = folder / "artifacts/bundle/head.safetensors"
    tensors = {name: -value for name, value in safetensors.numpy.load_file(file).items()}
    file.write_bytes(safetensors.numpy.save(tensors))


def no_checksums(folder: Path) -> None:
    (folder / SUMS_FILE).unlink()


def other_entry(folder: Path) -> None:
    next(folder.glob("*.py")).write_text("import os\n")


CHANGES = [add_code, change_code, exchange_labels, exchange_served_labels, negative_temperature, other_weights,
           no_checksums, other_entry]  # fmt: skip


@pytest.mark.parametrize("sealed_again", [False, True])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_changed_version_is_refused(
    stored: Path, tmp_path: Path, count: Count, change: Callable[[Path], None], sealed_again: bool
) -> None:
    change(stored)
    if sealed_again:  # by somebody who knows of the checksums in the folder
        (stored / SUMS_FILE).unlink(missing_ok=True)
        write_checksums(stored)
    if change is no_checksums and sealed_again:
        return  # the same as before
    registry, refused = Registry.open(NAME), 0
    uses: list[Callable[[], object]] = [
        lambda: load_model(f"models:/{NAME}/1"),
        lambda: fetch_model(f"models:/{NAME}/1", tmp_path / "fetched"),
        lambda: registry.promote(1, lambda folder: None),
    ]
    for use in uses:
        try:
            use()
        except GraftError as error:
            refused += "\n" not in str(error)
    count("a registered model changed behind its back", len(uses), refused)


def test_an_unchanged_version_is_used(stored: Path, tmp_path: Path) -> None:
    assert load_model(f"models:/{NAME}/1").spec.labels
    assert Registry.open(NAME).promote(1, lambda folder: None).number == 1


@pytest.mark.parametrize("change", [add_code, change_code, exchange_served_labels, other_weights])
def test_a_version_of_an_earlier_graft_is_compared_by_its_digests(
    stored: Path, tmp_path: Path, count: Count, change: Callable[[Path], None]
) -> None:
    """Without a digest of all files: code, labels and weights each have their own."""
    client = open_client()
    client.delete_model_version_tag(NAME, "1", FILES_TAG)
    for file in stored.rglob(SUMS_FILE):
        file.unlink()
    (tmp_path / "a").mkdir()
    assert packed_code_digest(download_checked(f"models:/{NAME}/1", tmp_path / "a"))
    change(stored)
    (tmp_path / "b").mkdir()
    with pytest.raises(GraftError, match=r"do not use it"):
        download_checked(f"models:/{NAME}/1", tmp_path / "b")
    count("a registered model without checksums changed", 1, 1)


def test_impossible_numbers_in_a_bundle(finished_run: FinishedRun, tmp_path: Path, count: Count) -> None:
    """Ranges are checked where there are no checksums, too."""
    changes: list[Callable[[Path], None]] = [
        lambda folder: changed_json(folder / "bundle.json", lambda values: values.update(temperature=-1.0)),
        lambda folder: changed_json(folder / "bundle.json", lambda values: values.update(temperature=0.0)),
        lambda folder: changed_json(folder / "bundle.json", lambda values: values.update(temperature=1e308 * 10)),
        lambda folder: changed_json(folder / "bundle.json", lambda values: values.update(l2=-1.0)),
        lambda folder: changed_json(folder / "bundle.json", lambda values: values["labels"].reverse()),
        lambda folder: changed_json(folder / "bundle.json", lambda values: values.update(labels=[])),
        lambda folder: not_finite(folder / "head.safetensors"),
        lambda folder: not_finite(folder / "backbone.safetensors"),
    ]
    survived = 0
    for number, change in enumerate(changes):
        folder = tmp_path / str(number)
        shutil.copytree(finished_run.model, folder, ignore=shutil.ignore_patterns(SUMS_FILE))
        change(folder)
        try:
            load_model(folder)
        except GraftError as error:
            survived += "\n" not in str(error)
    count("an impossible number in a model", len(changes), survived)


def not_finite(file: Path) -> None:
    tensors = safetensors.numpy.load_file(file)
    name = next(name for name, value in tensors.items() if np.issubdtype(value.dtype, np.floating))
    tensors[name] = np.full_like(tensors[name], np.nan)
    file.write_bytes(safetensors.numpy.save(tensors))


def test_a_registration_killed_at_any_request_is_finished_by_its_rerun(
    finished_run: FinishedRun, tmp_path: Path, count: Count, empty_store: Path, scale: int
) -> None:
    """Whatever request to the registry was the last one, the rerun leaves one version, and the champion."""
    tried = survived = 0
    for requests in range(1, 60, max(1, 3 // scale)):
        folder = tmp_path / str(requests)
        folder.mkdir()
        shutil.copy(empty_store, folder / "mlflow.db")
        uri = f"sqlite:///{folder}/mlflow.db"
        child = os.fork()
        if child == 0:
            os._exit(_register(uri, finished_run, requests))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, 9)
        if code == 0:
            break
        assert _in_child(lambda uri=uri: _register(uri, finished_run, None)) == 0
        found = [(one.number, one.aliases, one.tags["verdict"]) for one in Registry.open(NAME, uri).versions()]
        print(f"killed before request {requests}: {found}")
        tried += 1
        survived += found == [(1, ("champion",), "promoted")]
    else:
        pytest.fail("the registration was never finished undisturbed")
    count("register_model killed between two requests", tried, survived)


def test_a_version_that_a_rerun_has_finished_is_not_adopted_again(
    finished_run: FinishedRun, tmp_path: Path, empty_store: Path
) -> None:
    """Its own run stays KILLED, but the same content registered later is a version of its own."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    alias = 6  # the request after the version's
    codes = [_in_child(lambda requests=requests: _register(uri, finished_run, requests)) for requests in (alias, None)]
    assert codes == [9, 0]
    assert [one.number for one in Registry.open(NAME, uri).versions()] == [1]
    assert _in_child(lambda: _register(uri, finished_run, None)) == 0
    assert [one.number for one in Registry.open(NAME, uri).versions()] == [2, 1]


def test_a_pipeline_killed_after_its_last_step_registers_no_second_model(
    finished_run: FinishedRun, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch, count: Count
) -> None:
    """The step had finished, so nothing of it is left to do; but nobody knows its results, and it is run again."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert _versions_after("killed", uri, finished_run) == [1]
    assert _versions_after("again", uri, finished_run) == [1]
    killed = pipeline_runs.find_pipeline_run(open_client(), "killed")
    assert killed
    assert killed.info.status == "KILLED"
    pipeline_runs.end_pipeline_run("again")
    for _ in range(2):  # a pod that is started again is of the same pipeline, which goes on
        assert _versions_after("another", uri, finished_run, owner=this_process()) == [2, 1]
    count("a pipeline killed after its last step", 1, 1)


def test_a_version_that_a_pipeline_has_reused_is_its_own(
    finished_run: FinishedRun, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pipeline that made it was killed; its rerun had nothing left to do, and came to its end."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert _versions_after("killed", uri, finished_run) == [1]
    assert reused.record("again", "register_model", "killed")
    pipeline_runs.end_pipeline_run("again")
    assert _versions_after("another", uri, finished_run) == [2, 1]


def _versions_after(key: str, uri: str, run: FinishedRun, owner: str | None = None) -> list[int]:
    """Register the model in a pipeline of this key; None: its process is killed after its last step."""

    def work() -> int:
        os.environ |= {"GRAFT_PIPELINE_RUN": key, PIPELINE_PROCESS: owner or this_process()}
        return _register(uri, run, None)

    assert _in_child(work) == 0
    return [one.number for one in Registry.open(NAME, uri).versions()]


def _in_child(work: Callable[[], int]) -> int:
    child = os.fork()
    if child == 0:
        os._exit(work())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _register(uri: str, run: FinishedRun, requests: int | None) -> int:
    """Register the model in a run of its own; end at once, without a word, before a request to the registry."""
    try:
        from mlflow.tracking import MlflowClient

        from graft.data.dataset import ImageDataset
        from graft.models.bundle import ModelBundle
        from graft.params.register_model import RegisterModelParams
        from graft.runs import tracking
        from graft.serving.evidence import Evidence
        from graft.serving.registration import register

        os.environ["MLFLOW_TRACKING_URI"] = uri
        made = 0

        def counted(name: str) -> None:
            plain = getattr(MlflowClient, name)

            def call(self: MlflowClient, *args: object, **kwargs: object) -> object:
                nonlocal made
                made += 1
                if requests is not None and made >= requests:
                    os._exit(9)
                return plain(self, *args, **kwargs)

            setattr(MlflowClient, name, call)

        evidence = Evidence.read(run.evaluation, ImageDataset.read(run.dataset))
        bundle = ModelBundle.load(run.model)
        with tracking.step_run("register_model", {}) as log:
            for name in ("create_logged_model", "log_model_artifacts", "finalize_logged_model", "create_model_version",
                         "create_registered_model", "set_registered_model_alias", "set_model_version_tag",
                         "set_registered_model_tag", "delete_registered_model_alias"):  # fmt: skip
                counted(name)
            params = RegisterModelParams(name=NAME, max_milliseconds=1e6)
            registry = Registry.open(NAME, uri)
            tags = {PIPELINE_TAG: log.pipeline_run_id}
            register(registry, bundle, run.model, evidence, params, tags, log.run_id, log.experiment_id)
            tracking.finish_pipeline()
        return 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
