"""The digest of a folder of files, equal to the one DVC records, computed without DVC.

DVC identifies a version of a folder by the md5 of a JSON list of (md5, relative path) of its files. The same rule is
used here, so an image set has one digest whether it was fetched from a DVC remote or copied from a folder.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CHUNK_BYTES = 2**20


def file_digest(path: Path, algorithm: str = "md5") -> str:
    """Return the hex digest of a file's bytes, read in chunks."""
    # md5 identifies content here; it is not used for security.
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def short_hashes(kind: str, names: Iterable[str]) -> "npt.NDArray[np.uint64]":
    """Return a hash of 64 bits of each name, (n,), under which it can be recognised but not read.

    Of a million names and a million others, one is mistaken for another with a probability of about 1 in 10 million.

    Args:
        kind: what the names are of; equal names of two kinds have different hashes.
        names: any texts, such as content ids of images.
    """
    import numpy as np  # late: every file that is written atomically needs this module

    digests = [
        hashlib.blake2b(f"{kind} {name}".encode("utf-8", "surrogateescape"), digest_size=8).digest() for name in names
    ]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def listing_digest(files: Mapping[str, str]) -> str:
    """Return DVC's digest of a folder, given the md5 of each file by its relative posix path."""
    # The JSON of the list of all files, one entry at a time.
    digest = hashlib.md5(b"[", usedforsecurity=False)
    for number, path in enumerate(sorted(files)):
        entry = json.dumps({"md5": files[path], "relpath": path}, sort_keys=True)
        digest.update(f"{', ' if number else ''}{entry}".encode())
    digest.update(b"]")
    return f"{digest.hexdigest()}.dir"


def folder_digest(folder: Path) -> str:
    """Return DVC's digest of all files under `folder`."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return listing_digest({path.relative_to(folder).as_posix(): file_digest(path) for path in files})
