"""Versions of data on S3: a real DVC remote on an S3 server on loopback, as docs/data-versions.md sets it up."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from components.get_data.step import get_data
from graft.core.digest import folder_digest
from graft.core.errors import DataError
from graft.data.dvc_versions import data_version, fetch_version
from tests.support.data_on_s3 import BUCKET, KEY, SECRET, Published, credentials, publish, run, s3_server

pytest.importorskip("dvc_s3", reason="dvc-s3 is not installed: pip install -e '.[test]'")
pytest.importorskip("moto.server", reason="moto is not installed: pip install -e '.[test]'")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture(scope="module", autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
            patch.delenv(name, raising=False)
        for name, value in credentials(tmp_path_factory.mktemp("aws") / "none").items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, endpoint: str) -> Published:
    return publish(tmp_path_factory.mktemp("published"), endpoint)


class Recording:
    """A log that keeps everything it records, as text."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def __getattr__(self, name: str) -> object:
        return lambda *values, **named: self.said.append(f"{name} {values} {named}")


def test_a_version_is_fetched_byte_for_byte(
    published: Published, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = Recording()
    params = get_data.section(source="data/photos", repo=published.url, rev="photos-1")
    metrics = get_data(tmp_path / "raw", params, log)
    record = (tmp_path / "raw" / "source.json").read_text()
    (tmp_path / "raw" / "source.json").unlink()
    assert folder_digest(tmp_path / "raw") == folder_digest(published.original) == metrics["digest"]
    assert metrics["digest"] == data_version(published.url, "photos-1", "data/photos")
    told = record + "".join(log.said) + str(metrics) + "".join(capfd.readouterr())
    assert metrics["digest"] in told
    assert SECRET not in told
    assert KEY not in told


def test_a_fresh_clone_pulls_and_pushes(published: Published, tmp_path: Path) -> None:
    run(f"git clone -q {published.url} {tmp_path}/clone", tmp_path)
    clone = tmp_path / "clone"
    run("dvc pull -q", clone)
    assert folder_digest(clone / "data/photos") == folder_digest(published.original)
    (clone / "data/photos/dog/2.png").write_bytes(b"new")
    for command in (
        "dvc add -q data/photos",
        "dvc push -q",
        "git config user.name B",
        "git config user.email b@example.org",
        "git commit -qam more",
        "git push -q origin HEAD:refs/heads/more",
    ):
        run(command, clone)
    version = fetch_version(published.url, "more", "data/photos", tmp_path / "out")
    assert len(version.files) == 4
    assert version.digest != data_version(published.url, "main", "data/photos")


def test_no_credentials(published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(DataError) as caught:
        fetch_version(published.url, None, "data/photos", tmp_path / "out")
    assert "the data cannot be fetched from its DVC remote" in str(caught.value)
    assert "credentials" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_data_that_was_never_pushed(published: Published, tmp_path: Path) -> None:
    run(f"git clone -q {published.url} {tmp_path}/clone", tmp_path)
    for command in (
        f"dvc remote modify -q storage url s3://{BUCKET}/elsewhere",
        "git config user.name B",
        "git config user.email b@example.org",
        "git commit -qam elsewhere",
    ):
        run(command, tmp_path / "clone")
    with pytest.raises(DataError, match="run `dvc push` where it was added"):
        fetch_version(f"file://{tmp_path}/clone", None, "data/photos", tmp_path / "out")
