"""Versions of data on S3: a real DVC remote on an S3 server on loopback, as docs/data-versions.md sets it up."""

import contextlib
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from dvc.cli import main as dvc_command

from components.get_data.step import get_data
from graft.core.digest import folder_digest
from graft.core.errors import DataError
from graft.data.dvc_versions import data_version, fetch_version

pytest.importorskip("dvc_s3", reason="dvc-s3 is not installed: pip install -e '.[test]'")
moto_server = pytest.importorskip("moto.server", reason="moto is not installed: pip install -e '.[test]'")

KEY = "key-of-the-test"
SECRET = "s3cr3t-of-the-test"
BUCKET = "image-sets"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = moto_server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module", autouse=True)
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    none = str(tmp_path_factory.mktemp("aws") / "none")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_ACCESS_KEY_ID", KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", none)
        patch.setenv("AWS_CONFIG_FILE", none)
        yield


@dataclass(frozen=True)
class Published:
    """A git repository whose images, tracked at data/photos, are on S3 and nowhere else; and their bytes."""

    url: str
    original: Path


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, endpoint: str) -> Published:
    import boto3

    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=BUCKET)
    folder = tmp_path_factory.mktemp("published")
    repo = folder / "repo"
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        (repo / "data/photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (repo / "data/photos" / name).write_bytes(name.encode() * 1000)
    for command in (
        "git init -q -b main",
        "git config user.name A",
        "git config user.email a@example.org",
        "dvc init -q",
        "dvc add -q data/photos",
        "git add -A",
        "git commit -qm photos",
        *documented(endpoint),
        "git tag photos-1",
    ):
        run(command, repo)
    shutil.copytree(repo / "data/photos", folder / "original")
    shutil.rmtree(repo / "data/photos")
    shutil.rmtree(repo / ".dvc/cache")
    return Published(f"file://{repo}", folder / "original")


def documented(endpoint: str) -> list[str]:
    """The commands of the page's section on S3, for the server at `endpoint`."""
    section = (
        (Path(__file__).parents[2] / "docs" / "data-versions.md")
        .read_text(encoding="utf-8")
        .split("## Share them through S3")[1]
    )
    commands = section.split("```sh\n")[1].split("```")[0].replace("https://minio.example.org", endpoint)
    assert "dvc push" in commands
    return commands.splitlines()


def run(command: str, folder: Path) -> None:
    tool, *arguments = shlex.split(command)
    if tool == "dvc":  # in this process: starting Python and DVC costs a second each time
        with contextlib.chdir(folder):
            assert dvc_command(arguments) == 0
    else:
        subprocess.run([tool, *arguments], cwd=folder, check=True, capture_output=True)


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
