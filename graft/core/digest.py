"""The digest of a folder of files, equal to the one DVC records, computed without DVC.

DVC identifies a version of a folder by the md5 of a JSON list of (md5, relative path) of its files. The same rule is
used here, so an image set has one digest whether it was fetched from a DVC remote or copied from a folder.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

CHUNK_BYTES = 2**20


def file_digest(path: Path, algorithm: str = "md5") -> str:
    """Return the hex digest of a file's bytes, read in chunks."""
    # md5 identifies content here; it is not used for security.
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


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
