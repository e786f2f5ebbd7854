import multiprocessing
import multiprocessing.synchronize
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from graft.core.errors import RegistryError
from graft.runs import mlflow_store
from graft.runs.registered_files import download
from graft.serving.registry import CHALLENGER, CHAMPION, ChampionChangedError, Registry
from graft.serving.server_lock import LockTag
from tests.support.mlflow_server import mlflow_server


@pytest.fixture
def registry(store: Path) -> Registry:
    return Registry.open("flowers")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A model folder; the registry accepts any content."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "MLmodel").write_text("flavors: {}\n")
    return folder


def test_a_new_name_has_nothing(registry: Registry) -> None:
    assert registry.versions() == []
    assert registry.champion() is None


def test_a_new_version_is_the_challenger(registry: Registry, files: Path) -> None:
    first = registry.register(files, {"data.digest": "ab"}, "the first")
    second = registry.register(files, {})
    assert (first.number, second.number) == (1, 2)
    assert first.tags["data.digest"] == "ab"
    assert registry.version_with_alias(CHALLENGER) == registry.version(2)
    assert [version.number for version in registry.versions()] == [2, 1]
    assert registry.champion() is None


def test_promotion_moves_the_alias_after_the_check(registry: Registry, files: Path) -> None:
    seen: list[object] = []

    def check(folder: Path) -> None:
        seen.append((registry.champion(), (folder / "MLmodel").is_file()))

    number = registry.register(files, {}).number
    assert registry.promote(number, check).aliases == (CHAMPION,)
    assert seen == [(None, True)]


def test_a_failed_check_leaves_everything_as_it_was(registry: Registry, files: Path) -> None:
    registry.promote(registry.register(files, {}).number)
    second = registry.register(files, {}).number

    def check(folder: Path) -> None:
        raise RegistryError("it predicts otherwise")

    with pytest.raises(RegistryError, match="predicts otherwise"):
        registry.promote(second, check)
    assert registry.champion() == registry.version(1)
    assert registry.version(second).aliases == (CHALLENGER,)


def test_rollback_goes_back_one_champion_at_a_time(registry: Registry, files: Path) -> None:
    for _ in range(3):
        registry.promote(registry.register(files, {}).number)
    registry.promote(3)  # again: no second entry in the history
    checked: list[Path] = []
    assert registry.rollback(checked.append).number == 2
    assert registry.rollback(checked.append).number == 1
    assert len(checked) == 2
    with pytest.raises(RegistryError, match="no champion before version 1"):
        registry.rollback(checked.append)
    registry.promote(3)
    assert registry.rollback(checked.append).number == 1


def test_rollback_skips_a_deleted_version(registry: Registry, files: Path) -> None:
    for _ in range(3):
        registry.promote(registry.register(files, {}).number)
    registry.client.delete_model_version("flowers", "2")
    assert registry.rollback(lambda folder: None).number == 1


def test_the_alias_counts_if_the_history_is_incomplete(registry: Registry, files: Path) -> None:
    for _ in range(3):
        registry.promote(registry.register(files, {}).number)
    registry.client.set_registered_model_alias("flowers", CHAMPION, "2")  # moved by hand
    assert registry.rollback(lambda folder: None).number == 1


def test_promotion_is_refused_if_the_champion_changed_meanwhile(registry: Registry, files: Path) -> None:
    for _ in range(2):
        registry.register(files, {})
    registry.promote(1, expected_champion=None)
    with pytest.raises(ChampionChangedError, match="version 1 became champion"):
        registry.promote(2, expected_champion=None)
    assert registry.promote(2, expected_champion=1).aliases == (CHAMPION,)


@pytest.mark.parametrize("number", [7, 0])
def test_an_unknown_version_is_named_with_the_existing_ones(registry: Registry, files: Path, number: int) -> None:
    registry.register(files, {})
    with pytest.raises(RegistryError, match=rf"model 'flowers' has no version {number}; versions: 1$"):
        registry.promote(number)


def test_download_says_what_is_missing(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"models:/flowers@champion: cannot be read from sqlite"):
        download("models:/flowers@champion", tmp_path)


def test_download_from_a_store_that_the_environment_does_not_name(
    registry: Registry, files: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = registry.register(files, {})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    found = download(version.uri, tmp_path / "copy", f"sqlite:///{store}")
    assert (found / "MLmodel").is_file()
    assert (download("models:/flowers@challenger", tmp_path / "copy", f"sqlite:///{store}") / "MLmodel").is_file()


def test_download_refuses_a_bad_address(store: Path, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"models:/flowers/latest: not a registered model; write models:/name"):
        download("models:/flowers/latest", tmp_path)


def test_a_version_belongs_to_its_run(registry: Registry, files: Path) -> None:
    run = registry.client.create_run("0")
    version = registry.register(files, {}, run_id=run.info.run_id, experiment="0")
    assert version.run_id == run.info.run_id
    (output,) = registry.client.get_run(run.info.run_id).outputs.model_outputs
    assert registry.client.get_logged_model(output.model_id).source_run_id == run.info.run_id


def _promote(number: int, times: int) -> None:
    registry = Registry.open("flowers")
    for _ in range(times):
        champion = registry.champion()
        assert champion is not None
        try:
            registry.promote(number, expected_champion=champion.number)
        except ChampionChangedError:
            continue


@pytest.mark.slow
def test_two_pipelines_promoting_at_once_leave_one_champion(registry: Registry, files: Path) -> None:
    for _ in range(3):
        registry.register(files, {})
    registry.promote(1)
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_promote, args=(number, 5)) for number in (2, 3)]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        assert registry.champion() is not None
    assert [process.exitcode for process in processes] == [0, 0]
    champions = [version.number for version in registry.versions() if CHAMPION in version.aliases]
    assert len(champions) == 1
    assert registry._history(champions[0])[0] == 1
    assert os.environ["MLFLOW_TRACKING_URI"] == registry.tracking_uri


@pytest.mark.parametrize("act", [lambda lock: lock.write("mine"), lambda lock: lock.clear()])
def test_of_two_first_writers_of_the_lock_none_fails(
    registry: Registry, files: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[LockTag], None]
) -> None:
    registry.register(files, {})
    write = registry.client.set_registered_model_tag
    tries: list[str] = []

    def another_was_faster(name: str, key: str, value: str) -> None:
        tries.append(value)
        if len(tries) == 1:
            write(name, key, "theirs")
            raise MlflowException("UNIQUE constraint failed: registered_model_tags.name")
        write(name, key, value)

    monkeypatch.setattr(registry.client, "set_registered_model_tag", another_was_faster)
    lock = LockTag(registry.client, "flowers")
    act(lock)
    assert lock.read() == (tries[0] or None)
    assert tries == [tries[0]] * 2


def _promote_if_better(number: int, start: multiprocessing.synchronize.Barrier) -> None:
    """Act as a pipeline on a machine of its own does: the higher of two version numbers is the better model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlflow_store, "locked", lambda uri: nullcontext())  # another machine does not see the file
        registry = Registry.open("flowers")
        start.wait()
        while True:
            champion = registry.champion()
            if champion and champion.number > number:
                return
            try:
                registry.promote(number, expected_champion=champion.number if champion else None)
            except ChampionChangedError:
                continue
            return


@pytest.mark.slow
def test_eight_machines_on_one_server_leave_one_champion_that_beat_all_before_it(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mlflow_server(tmp_path / "server", str(tmp_path / "artifacts"), {}, users=False) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        registry = Registry.open("flowers")
        for _ in range(8):
            registry.register(files, {}, experiment="0")
        context = multiprocessing.get_context("spawn")
        start = context.Barrier(8)
        processes = [context.Process(target=_promote_if_better, args=(number, start)) for number in range(1, 9)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
        assert [process.exitcode for process in processes] == [0] * 8
        champion = registry.champion()
        assert champion is not None
        assert champion.number == 8
        history = registry._history(8)
        assert history == sorted(set(history)), "each champion was compared with the one that it replaced"
