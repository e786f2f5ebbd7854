"""The digest of a folder is the one that DVC computes."""

import hashlib
from pathlib import Path

import pytest
from dvc_data.hashfile.build import build
from dvc_data.hashfile.db.local import LocalHashFileDB
from dvc_objects.fs.local import localfs
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.core.digest import file_digest, folder_digest, listing_digest

NAMES = st.text(alphabet="abzé 0-_\"'&<", min_size=1, max_size=8).map(lambda name: f"{name}.png")


def dvc_digest(folder: Path, cache: Path) -> str:
    _, _, tree = build(LocalHashFileDB(localfs, str(cache)), str(folder), localfs, "md5", dry_run=True)
    return str(tree.hash_info.value)


@given(files=st.dictionaries(st.tuples(st.sampled_from(["a", "B", "a-b"]), NAMES), st.binary(max_size=64), min_size=1))
@settings(max_examples=15, deadline=None)
def test_equals_dvc(files: dict[tuple[str, str], bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("digest")
    for (sub, name), content in files.items():
        (folder / "in" / sub).mkdir(parents=True, exist_ok=True)
        (folder / "in" / sub / name).write_bytes(content)
    assert folder_digest(folder / "in") == dvc_digest(folder / "in", folder / "cache")


def test_does_not_depend_on_the_order_of_files() -> None:
    assert (
        listing_digest({"a": "1", "b": "2"})
        == listing_digest({"b": "2", "a": "1"})
        != listing_digest({"a": "2", "b": "1"})
    )


def test_file_digest_by_another_algorithm(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 3_000_000)
    assert file_digest(tmp_path / "f", "sha256") == hashlib.sha256(b"x" * 3_000_000).hexdigest()
