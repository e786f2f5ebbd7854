"""Pinned versions of data, from a real git repository and a real DVC remote."""

import contextlib
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from dvc.cli import main as dvc_command

from components.get_data.step import get_data
from graft.core.digest import folder_digest
from graft.core.errors import DataError
from graft.data.dvc_versions import data_version, fetch_version
from graft.data.fetch import fetch
from graft.data.source import Source
from graft.params.get_data import GetDataParams
from graft.runs.run_log import SilentLog


@dataclass(frozen=True)
class Tracked:
    """A git repository that tracks data/img: two images at tag v1, three at v2 and HEAD."""

    repo: Path
    remote: Path
    digests: dict[str, str]

    @property
    def url(self) -> str:
        return f"file://{self.repo}"

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.repo, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def dvc(self, *arguments: str) -> None:
        # in this process: starting Python and DVC costs a second each time
        with contextlib.chdir(self.repo):
            assert dvc_command([*arguments, "-q"]) == 0

    def commit(self, images: dict[str, str], tag: str) -> None:
        for name, content in images.items():
            (self.repo / "data/img" / name).parent.mkdir(parents=True, exist_ok=True)
            (self.repo / "data/img" / name).write_text(content)
        self.dvc("add", "data/img")
        self.git("add", "-A")
        self.git("commit", "-qm", tag)
        self.git("tag", tag)
        self.dvc("push")
        self.digests[tag] = yaml.safe_load((self.repo / "data/img.dvc").read_text())["outs"][0]["md5"]


def make(folder: Path) -> Tracked:
    tracked = Tracked(folder / "repo", folder / "remote", {})
    tracked.repo.mkdir()
    tracked.git("init", "-q", "-b", "main")
    tracked.git("config", "user.name", "A")
    tracked.git("config", "user.email", "a@example.org")
    tracked.dvc("init")
    tracked.dvc("remote", "add", "-d", "store", str(tracked.remote))
    (tracked.repo / "README.md").write_text("hello\n")
    tracked.commit({"cat/1.png": "one", "dog/1.png": "two"}, "v1")
    tracked.commit({"dog/2.png": "three"}, "v2")
    return tracked


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    return make(tmp_path_factory.mktemp("tracked"))


@pytest.fixture
def fresh(tmp_path: Path, tracked: Tracked) -> Tracked:
    """A copy that a test may damage."""
    shutil.copytree(tracked.repo, tmp_path / "repo")
    shutil.copytree(tracked.remote, tmp_path / "remote")
    copied = Tracked(tmp_path / "repo", tmp_path / "remote", dict(tracked.digests))
    copied.dvc("remote", "modify", "store", "url", str(copied.remote))
    copied.git("commit", "-qam", "remote")
    return copied


def line_of(repo: str, rev: str | None, path: str, folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        fetch_version(repo, rev, path, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("rev", "like", "names"), [("v1", "v1", 2), ("v2", "v2", 3), (None, "v2", 3), ("main", "v2", 3)]
)
@pytest.mark.parametrize("way", ["path", "url"])
def test_fetch(tracked: Tracked, tmp_path: Path, way: str, rev: str | None, like: str, names: int) -> None:
    repo = tracked.url if way == "url" else str(tracked.repo)
    version = fetch_version(repo, rev, "data/img", tmp_path / "out")
    assert (version.digest, len(version.files)) == (tracked.digests[like], names)
    assert version.commit == tracked.git("rev-parse", like)
    assert folder_digest(tmp_path / "out") == version.digest
    assert (tmp_path / "out" / "dog" / "1.png").read_text() == "two"


def test_a_part_of_a_tracked_folder(tracked: Tracked, tmp_path: Path) -> None:
    version = fetch_version(str(tracked.repo), "v1", "data/img/dog", tmp_path / "out")
    assert version.digest == folder_digest(tmp_path / "out")
    assert list(version.files) == ["1.png"]


def test_the_working_tree_does_not_count(fresh: Tracked, tmp_path: Path) -> None:
    (fresh.repo / "data/img/dog/new.png").write_text("not committed")
    fresh.dvc("add", "data/img")
    assert fetch_version(str(fresh.repo), None, "data/img", tmp_path / "out").digest == fresh.digests["v2"]


def test_no_cache_but_a_remote(fresh: Tracked, tmp_path: Path) -> None:
    shutil.rmtree(fresh.repo / ".dvc/cache")
    assert fetch_version(str(fresh.repo), "v1", "data/img", tmp_path / "out").digest == fresh.digests["v1"]


def test_step(tracked: Tracked, tmp_path: Path) -> None:
    params = GetDataParams(source="./data/img/", repo=str(tracked.repo), rev="v1")
    metrics = get_data(tmp_path / "raw", params, SilentLog())
    source = Source.model_validate_json((tmp_path / "raw" / "source.json").read_text())
    assert (source.origin, source.path, source.repo) == ("dvc", "data/img", str(tracked.repo))
    assert source.rev == tracked.git("rev-parse", "v1")
    assert metrics == {
        "digest": tracked.digests["v1"],
        "files": 2,
        "source": f"{tracked.repo}@{str(source.rev)[:12]}:data/img",
    }


def test_hidden_files_are_fetched_and_left_out(fresh: Tracked, tmp_path: Path) -> None:
    fresh.commit({"cat/.DS_Store": "noise", "source.json": "{}"}, "v3")
    source = fetch("data/img", tmp_path / "raw", repo=str(fresh.repo), rev="v3")
    assert (source.digest, source.files) == (fresh.digests["v3"], 3)
    assert [skipped.path for skipped in source.skipped] == ["source.json"]
    assert not (tmp_path / "raw" / "cat" / ".DS_Store").exists()


def test_a_folder_and_its_version_have_one_digest(tracked: Tracked, tmp_path: Path) -> None:
    assert fetch(str(tracked.repo / "data/img"), tmp_path / "raw").digest == tracked.digests["v2"]


def test_data_version_follows_the_branch(fresh: Tracked) -> None:
    assert data_version(fresh.url, "main", "data/img") == fresh.digests["v2"]
    fresh.commit({"cat/3.png": "four"}, "v3")
    assert data_version(fresh.url, "main", "data/img") == fresh.digests["v3"] != fresh.digests["v2"]
    assert data_version(fresh.url, "v1", "data/img") == fresh.digests["v1"]


def test_data_version_reads_no_data(fresh: Tracked) -> None:
    shutil.rmtree(fresh.repo / ".dvc/cache")
    shutil.rmtree(fresh.remote)
    assert data_version(fresh.url, None, "data/img") == fresh.digests["v2"]


def test_data_version_of_a_part(tracked: Tracked) -> None:
    with pytest.raises(DataError, match="data/img/dog is part of a folder that DVC tracks"):
        data_version(str(tracked.repo), "v1", "data/img/dog")


@pytest.mark.parametrize(
    ("rev", "path", "said"),
    [
        ("v9", "data/img", "no git revision 'v9'; expected a tag, a branch or a commit of it"),
        ("v1", "data/other", "no data/other there; tracked there: data/img"),
        (
            "v1",
            "README.md",
            "README.md is not tracked by DVC (`dvc add README.md` makes it so); tracked there: data/img",
        ),
        ("v1", "data", "data is not tracked by DVC"),
        ("v1", "data/img/cat/1.png", "is a file; expected a folder of images that DVC tracks"),
        ("v1", "/data/img", "expected a path relative to the top of the repository"),
        ("v1", "../data/img", "expected a path relative to the top of the repository"),
    ],
)
def test_faults(tracked: Tracked, tmp_path: Path, rev: str, path: str, said: str) -> None:
    assert said in line_of(str(tracked.repo), rev, path, tmp_path / "out")


def test_unreachable_repository(tmp_path: Path) -> None:
    line = line_of("http://user:secret@127.0.0.1:9/x.git", "v1", "data/img", tmp_path / "out")
    assert line.startswith("http://***@127.0.0.1:9/x.git: cannot be cloned (")
    assert "secret" not in line


def test_no_repository(tmp_path: Path) -> None:
    assert "cannot be cloned" in line_of(str(tmp_path / "none"), None, "data/img", tmp_path / "out")
    (tmp_path / "plain").mkdir()
    assert "expected a git repository in which DVC tracks data" in line_of(
        str(tmp_path / "plain"), None, "data/img", tmp_path / "out"
    )


def test_never_pushed(fresh: Tracked, tmp_path: Path) -> None:
    shutil.rmtree(fresh.remote)
    shutil.rmtree(fresh.repo / ".dvc/cache")
    line = line_of(fresh.url, None, "data/img", tmp_path / "out")
    assert f"{fresh.url} at HEAD: the data cannot be fetched from its DVC remote" in line
    assert "run `dvc push` where it was added" in line


def test_one_image_lost_in_the_remote(fresh: Tracked, tmp_path: Path) -> None:
    lost = max(
        (p for p in fresh.remote.rglob("*") if p.is_file() and p.suffix != ".dir"), key=lambda p: p.stat().st_size
    )
    lost.unlink()
    assert "the data cannot be fetched from its DVC remote" in line_of(fresh.url, None, "data/img", tmp_path / "out")


def test_one_image_damaged_in_the_remote(fresh: Tracked, tmp_path: Path) -> None:
    damaged = next(p for p in fresh.remote.rglob("*") if p.is_file() and p.suffix != ".dir")
    damaged.chmod(0o644)
    damaged.write_text("bad")
    line = line_of(fresh.url, None, "data/img", tmp_path / "out")
    assert "damaged" in line or "cannot be fetched" in line


def test_a_list_of_files_that_leads_out(fresh: Tracked, tmp_path: Path) -> None:
    listing = next(p for p in fresh.remote.rglob("*.dir") if "2.png" in p.read_text())
    listing.chmod(0o644)
    listing.write_text(listing.read_text().replace("dog/2.png", "../../up.png"))
    with pytest.raises(DataError):
        fetch_version(fresh.url, None, "data/img", tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("up.png"))
