"""Copying files out of an untrusted folder: nothing outside it is read, and pipes or devices never block the copy."""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from graft.core.digest import CHUNK_BYTES
from graft.data.clutter import is_clutter
from graft.data.safe_paths import is_link
from graft.data.source import SkippedKind

_KINDS = (
    (stat.S_ISFIFO, "named pipe"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISBLK, "device"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISDIR, "folder"),
)


class NotCopiedError(Exception):
    """A file that was left out: the message is a short reason, `kind` the kind of finding it becomes."""

    def __init__(self, kind: SkippedKind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def walk_files(folder: Path) -> Iterator[str]:
    """Yield the relative posix path of every file below `folder` that is no clutter, in a fixed order.

    Everything that is not a folder counts as a file here. Links are yielded and not followed; a folder that cannot be
    listed is yielded itself.
    """
    unreadable: list[str] = []
    for place, folders, names in os.walk(folder, onerror=lambda error: unreadable.append(str(error.filename))):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]  # noqa: PTH114, PTH118
        folders[:] = sorted(name for name in folders if not is_clutter(name))
        for name in sorted(names + links):
            if not is_clutter(name):
                yield (Path(place) / name).relative_to(folder).as_posix()
    for path in sorted(unreadable):
        yield Path(path).relative_to(folder).as_posix()


def copy_file(folder: Path, path: str, target: Path) -> str:
    """Copy the regular file `path` (relative to `folder`) to `target`; links that stay in `folder` are followed.

    Returns:
        The md5 of its bytes.

    Raises:
        NotCopiedError: if it is a link out of the folder, not a regular file, unreadable, or changes while it is read.
    """
    source = _inside(folder.resolve(), folder / path)
    try:
        # NOFOLLOW and NONBLOCK: the file may have been replaced by a link or a pipe since it was listed.
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _not_readable(error) from error
    try:
        before = os.fstat(descriptor)
        _check_regular(before.st_mode)
        digest = hashlib.md5(usedforsecurity=False)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as copied:
            while chunk := _read(descriptor):
                digest.update(chunk)
                copied.write(chunk)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        target.unlink()
        raise NotCopiedError("unreadable", "changed while it was read")
    return digest.hexdigest()


def _inside(root: Path, path: Path) -> Path:
    try:
        resolved = path.resolve(strict=True)
        mode = resolved.stat().st_mode
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links; a NUL in the name
        if is_link(path):
            raise NotCopiedError("broken_link", "broken link") from error
        raise _not_readable(error) from error
    if not resolved.is_relative_to(root):
        raise NotCopiedError("path_escape", "link out of the folder")
    _check_regular(mode, "link to a " if is_link(path) else "")
    return resolved


def _check_regular(mode: int, how: str = "") -> None:
    if stat.S_ISREG(mode):
        return
    reason = how + next((kind for check, kind in _KINDS if check(mode)), "special file")
    raise NotCopiedError("broken_link" if stat.S_ISDIR(mode) else "special_file", reason)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, CHUNK_BYTES)
    except OSError as error:
        raise _not_readable(error) from error


def _not_readable(error: Exception) -> NotCopiedError:
    if isinstance(error, FileNotFoundError):
        return NotCopiedError("missing_file", "no such file")
    return NotCopiedError(
        "unreadable", f"unreadable ({error.strerror})" if isinstance(error, OSError) else "unreadable"
    )
