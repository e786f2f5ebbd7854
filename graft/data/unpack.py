"""Extracting an untrusted archive: only regular files, nothing outside the folder, limits on number and size."""

import gzip
import stat
import tarfile
import zipfile
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from graft.core.boundary import machine_fault
from graft.core.digest import CHUNK_BYTES
from graft.core.errors import DataError, GraftError

_SPARE_BYTES = 2**20  # small archives of small files have a high ratio because of their headers


@dataclass(frozen=True)
class Limits:
    """How large an archive may become.

    Attributes:
        files: number of files.
        bytes: size of all files together.
        ratio: extracted bytes per byte of the archive. Images hardly compress; deflate reaches 1,000.
    """

    files: int = 200_000
    bytes: int = 20 * 2**30
    ratio: float = 50.0


@dataclass(frozen=True)
class _Member:
    name: str
    content: IO[bytes]


def extract(archive: Path, folder: Path, root: str = "", limits: Limits | None = None) -> int:
    """Write the files below `root` of a .zip or .tar.gz to `folder`, without the prefix `root`; skip all others.

    Returns:
        The number of files written. Files written before an error stay: give a temporary folder.

    Raises:
        DataError: if the archive is damaged, has a member that is not a regular file or leads out of the folder,
            exceeds a limit, or has no file below `root`.
    """
    limits = limits or Limits()
    most = min(limits.bytes, int(archive.stat().st_size * limits.ratio) + _SPARE_BYTES)
    files = written = total = 0
    try:
        with _members(archive, most) as members:
            for member in members:
                files += 1
                if files > limits.files:
                    raise DataError(f"{archive.name}: more than {limits.files:,} files; refused")
                target = _target(folder, member.name, root, archive)
                if target is None:
                    continue
                written += 1
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as file:
                    while chunk := member.content.read(CHUNK_BYTES):
                        total += len(chunk)
                        _check_size(total, most, archive)
                        file.write(chunk)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise DataError(f"{archive.name}: two members have the same name ({error.filename})") from error
    except (GraftError, MemoryError):
        raise
    except Exception as error:  # zipfile and tarfile raise nearly anything on such bytes
        if machine_fault(error):
            raise
        raise DataError(f"{archive.name}: damaged archive ({error})") from error
    if not written:
        raise DataError(f"{archive.name}: no file below {root!r} in it")
    return written


@contextmanager
def _members(archive: Path, most: int) -> Iterator[Iterator[_Member]]:
    with archive.open("rb") as file:
        start = file.read(4)
    if start[:2] == b"PK":
        with zipfile.ZipFile(archive) as opened, closing(_zip_members(opened, archive)) as members:
            yield members
    elif start[:2] == b"\x1f\x8b":
        # Limit what tarfile reads, too: a header may be a bomb as well as a file.
        with gzip.open(archive) as content:
            bounded = cast(IO[bytes], _Bounded(content, most, archive))  # tarfile only reads it
            with tarfile.open(fileobj=bounded, mode="r|") as tar, closing(_tar_members(tar, archive)) as members:
                yield members
    else:
        raise DataError(f"{archive.name}: neither a .zip nor a .tar.gz")


def _zip_members(opened: zipfile.ZipFile, archive: Path) -> Generator[_Member, None, None]:
    for info in opened.infolist():
        if info.is_dir():
            continue
        kind = stat.S_IFMT(info.external_attr >> 16)  # 0 if made on a system without file modes
        if kind not in (0, stat.S_IFREG):
            raise DataError(
                f"{archive.name}: {info.filename!r} is a link or a device; only regular files are extracted"
            )
        if info.flag_bits & 1:
            raise DataError(f"{archive.name}: {info.filename!r} is encrypted; extract the archive yourself")
        try:
            member = opened.open(info)
        except OSError as error:  # its directory leads to before the start of the file
            raise zipfile.BadZipFile(f"{info.filename!r} is not where the directory says: {error.strerror}") from error
        with member as content:
            yield _Member(info.filename, content)


def _tar_members(tar: tarfile.TarFile, archive: Path) -> Generator[_Member, None, None]:
    for info in tar:
        if info.isdir():
            continue
        if not info.isreg():
            raise DataError(f"{archive.name}: {info.name!r} is a link or a device; only regular files are extracted")
        with cast(IO[bytes], tar.extractfile(info)) as content:
            yield _Member(info.name, content)


def _target(folder: Path, name: str, root: str, archive: Path) -> Path | None:
    """Return the path to extract a member to, or None if it is not below `root`."""
    pure = PurePosixPath(name.replace("\\", "/"))
    if pure.is_absolute() or ".." in pure.parts or (pure.parts and ":" in pure.parts[0]):
        raise DataError(f"{archive.name}: {name!r} leads out of the folder; refused")
    if not pure.is_relative_to(root):
        return None
    return folder / pure.relative_to(root)


def _check_size(size: int, most: int, archive: Path) -> None:
    if size > most:
        raise DataError(
            f"{archive.name}: {archive.stat().st_size:,} bytes extract to more than {most:,}; "
            "refused as a decompression bomb"
        )


class _Bounded:
    """A stream that raises an error after `most` bytes."""

    def __init__(self, content: gzip.GzipFile, most: int, archive: Path) -> None:
        self._content = content
        self._most = most + tarfile.RECORDSIZE + most // 8  # plus the headers and padding of a tar
        self._archive = archive
        self._read = 0

    def read(self, size: int = -1) -> bytes:
        chunk = self._content.read(size)
        self._read += len(chunk)
        _check_size(self._read, self._most, self._archive)
        return chunk
