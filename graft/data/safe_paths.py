"""Which files may be opened: nothing outside the data folder, no link loop, no pipe and no device."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from graft.core.errors import DataError
from graft.data.records import Problem, ProblemKind


def read_bytes(file: Path | str, max_bytes: int | None = None, resolved: bool = False) -> bytes:
    """Read a regular file; a link, pipe or device that has replaced it since it was listed is an error.

    Args:
        file: what to read.
        max_bytes: a larger file is not read.
        resolved: `file` had no link in its path when it was listed, so it must not have one now.

    Raises:
        DataError: if it vanished, is not a regular file, cannot be read, or is larger than `max_bytes`; the message is
            a predicate without a subject.
    """
    with _opened(file) as stream:
        if resolved and os.path.realpath(file) != os.fspath(file):
            raise DataError("is behind a link that replaced a folder while the data was read")
        size = os.fstat(stream.fileno()).st_size
        if max_bytes is not None and size > max_bytes:
            raise DataError(f"has {size:,} bytes, more than the {max_bytes:,} allowed")
        return _read(stream)


def read_head(file: Path | str, most: int) -> bytes:
    """Read at most the first `most` bytes of a regular file, like `read_bytes`."""
    with _opened(file) as stream:
        return _read(stream, most)


@contextmanager
def _opened(file: Path | str) -> Iterator[IO[bytes]]:
    try:
        # O_NONBLOCK: opening a pipe must not wait for its other end.
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise DataError("vanished while the folder was read") from error
    except OSError as error:
        raise DataError(f"cannot be opened ({error.strerror})") from error
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise DataError("is not a regular file")
        yield stream


def _read(stream: IO[bytes], most: int = -1) -> bytes:
    try:
        return stream.read(most)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from error


def check_path(root: Path, path: Path) -> str | Problem:
    """Return the file behind `path`, links resolved, or why it must not be read."""
    name = relative_name(root, path)
    try:
        real = os.path.realpath(path, strict=True)
        mode = Path(real).stat().st_mode
    except FileNotFoundError:
        kind: ProblemKind = "broken_link" if is_link(path) else "missing_file"
        return Problem(kind, name, "a link to nothing" if kind == "broken_link" else "no such file")
    except OSError as error:
        looped = error.errno == errno.ELOOP or is_link(path)
        why = error.strerror or str(error)
        return Problem("broken_link", name, "a loop of links") if looped else Problem("unreadable", name, why)
    if not Path(real).is_relative_to(root):
        return Problem("path_escape", name, "leads out of the data folder")
    if stat.S_ISDIR(mode) and is_link(path):
        return Problem("broken_link", name, "a link to a folder, which is not followed")
    if stat.S_ISDIR(mode):
        return Problem("unreadable", name, "a folder that cannot be listed")
    if not stat.S_ISREG(mode):
        return Problem("special_file", name, "not a regular file (a pipe, socket or device)")
    return real


def is_file(path: Path) -> bool:
    """Return whether there is a file; a name that no file can have, as one of 300 letters, is none, and no error."""
    return os.path.isfile(path)  # noqa: PTH113 (Path.is_file raises an error for such a name)


def is_link(path: Path) -> bool:
    """Return whether there is a link; like `is_file`, a name that no file can have is none, and no error."""
    return os.path.islink(path)  # noqa: PTH114 (as above)


def relative_name(root: Path, path: Path) -> str:
    """Return the path relative to the data folder, as text."""
    return decode_name(path.relative_to(root).as_posix())


def decode_name(name: str) -> str:
    r"""Show bytes of a file name that are not UTF-8, which Python keeps as surrogates, as `\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
