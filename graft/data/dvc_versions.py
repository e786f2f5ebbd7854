"""Versions of an image set that DVC tracks in a git repository: find the version at a revision, and fetch it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dvc.api import DVCFileSystem
from dvc.exceptions import NotDvcRepoError
from dvc.repo.open_repo import clean_repos
from dvc.scm import CloneError, RevError, SCMError

from graft.core.credentials import mask_credentials
from graft.core.digest import file_digest, listing_digest
from graft.core.errors import DataError


@dataclass(frozen=True)
class FetchedVersion:
    """What `fetch_version` wrote.

    Attributes:
        commit: the git commit of the revision.
        digest: DVC's md5 of the folder.
        files: the md5 of each file by its relative posix path.
    """

    commit: str
    digest: str
    files: dict[str, str]


def data_version(repo: str, rev: str | None, path: str) -> str:
    """Return DVC's md5 of the folder that `repo` tracks at `path`, at git revision `rev` (None: its HEAD).

    Reads only git, no data, so it is cheap enough for frequent checks for a new version.

    Raises:
        DataError: if the repository, the revision or the path is not found, or DVC does not track the path itself.
    """
    with _opened(repo, rev) as fs:
        digest = _tracked_digest(fs, repo, rev, path)
    if digest is None:
        raise DataError(f"{repo}: {path} is part of a folder that DVC tracks; give the folder itself")
    return digest


def resolve_revision(repo: str, rev: str | None) -> str:
    """Return the git commit that `rev` of `repo` points to now (None: its HEAD).

    Raises:
        DataError: if the repository or the revision is not found.
    """
    with _opened(repo, rev) as fs:
        return str(fs.repo.get_rev())


def fetch_version(repo: str, rev: str | None, path: str, folder: Path) -> FetchedVersion:
    """Write the folder that `repo` tracks at `path`, as it is at `rev`, to `folder` (which must not exist yet).

    Raises:
        DataError: as `data_version`; or if no remote has the bytes, or their digest is not the recorded one.
    """
    with _opened(repo, rev) as fs:
        recorded = _tracked_digest(fs, repo, rev, path)
        fs.get(path, str(folder), recursive=True)
        commit = fs.repo.get_rev()
    files = {file.relative_to(folder).as_posix(): file_digest(file) for file in folder.rglob("*") if file.is_file()}
    digest = listing_digest(files)
    if recorded not in (None, digest):
        raise DataError(
            f"{mask_credentials(repo)}: {path} was fetched with digest {digest}, expected {recorded}; "
            "the cache or the remote is damaged: remove the damaged copy and fetch again"
        )
    return FetchedVersion(commit, digest, files)


def _tracked_digest(fs: DVCFileSystem, repo: str, rev: str | None, path: str) -> str | None:
    """Return DVC's md5 of a tracked folder; None for a part of one, for which DVC records no md5."""
    at = f"{mask_credentials(repo)} at {rev or 'HEAD'}"
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts:
        raise DataError(f"{path}: expected a path relative to the top of the repository {mask_credentials(repo)}")
    try:
        info = fs.info(path)
    except FileNotFoundError as error:
        raise DataError(f"{at}: no {path} there; {_tracked(fs)}") from error
    tracked = info.get("dvc_info") or {}
    if not tracked.get("isout"):
        raise DataError(f"{at}: {path} is not tracked by DVC (`dvc add {path}` makes it so); {_tracked(fs)}")
    if info["type"] != "directory":
        raise DataError(f"{at}: {path} is a file; expected a folder of images that DVC tracks")
    md5: str | None = tracked.get("md5")
    return md5


def _tracked(fs: DVCFileSystem) -> str:
    names = ["/".join(key) for key in fs.repo.index.data_keys["repo"]]
    return f"tracked there: {', '.join(sorted(names))}" if names else "DVC tracks nothing there"


@contextmanager
def _opened(repo: str, rev: str | None) -> Iterator[DVCFileSystem]:
    """Open `repo` at `rev`; errors of DVC and git become a DataError of one line."""
    local = Path(repo).is_dir()
    shown = mask_credentials(repo)
    try:
        # Without a revision DVC would read a local repository's working tree, which is not a revision.
        fs = DVCFileSystem(repo, rev=rev or ("HEAD" if local else None))
        try:
            yield fs
        finally:
            fs.close()
    except RevError as error:
        raise DataError(f"{shown}: no git revision {rev!r}; expected a tag, a branch or a commit of it") from error
    except CloneError as error:
        cause = mask_credentials(str(_root(error)).strip().splitlines()[-1])
        raise DataError(
            f"{shown}: cannot be cloned ({cause}); expected the URL or the path of a git repository"
        ) from error
    except (NotDvcRepoError, SCMError) as error:
        raise DataError(
            f"{shown}: {mask_credentials(str(error))}; expected a git repository in which DVC tracks data"
        ) from error
    except DataError:
        raise
    except Exception as error:  # each kind of storage raises its own errors
        raise DataError(
            f"{shown} at {rev or 'HEAD'}: the data cannot be fetched from its DVC remote "
            f"({mask_credentials(_describe(_root(error)))}); "
            "run `dvc push` where it was added, and check the remote's address and credentials"
        ) from error
    finally:
        if not local:
            clean_repos()


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
