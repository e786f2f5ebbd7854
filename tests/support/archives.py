"""Archives of a few files, for tests that extract them."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

IMAGES = {"set/cat/1.png": b"one", "set/dog/1.png": b"two" * 1000, "set/LICENSE.txt": b"free", "README": b"outside"}
"""Members of an archive whose files are below `set`, except one."""


def pack_zip(folder: Path, members: Mapping[str, bytes]) -> Path:
    """Write `set.zip` with these members and an empty folder `set`; return its path."""
    with zipfile.ZipFile(folder / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("set")
        for name, content in members.items():
            archive.writestr(name, content)
    return folder / "set.zip"


def pack_tgz(folder: Path, members: Mapping[str, bytes], special: Mapping[str, bytes] | None = None) -> Path:
    """Write `set.tgz` with these members, and with links or devices (name -> type of tar member); return its path."""
    with tarfile.open(folder / "set.tgz", "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mode = 0o4777
            archive.addfile(info, io.BytesIO(content))
        for name, kind in (special or {}).items():
            info = tarfile.TarInfo(name)
            info.type = kind
            info.linkname = "/etc/hostname"
            archive.addfile(info)
    return folder / "set.tgz"
