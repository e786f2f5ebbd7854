"""A bit flipped anywhere in an artifact: it is refused in one line that names the file, or it changed nothing."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from graft.backbones.feature_store import FeatureStore
from graft.core.checksums import SUMS_FILE, check_folder, write_checksums
from graft.core.errors import DamagedError, GraftError
from graft.data.dataset import ImageDataset
from graft.evaluation.held_out_table import read_predictions
from graft.evaluation.schema import read_evaluation
from graft.models.bundle import ModelBundle
from tests.faults.conftest import Count
from tests.support.finished_run import FinishedRun


def flip(file: Path, generator: random.Random) -> None:
    """Invert one bit, in a copy with a new inode, as a disk or a colleague would."""
    content = bytearray(file.read_bytes())
    at = generator.randrange(len(content))
    content[at] ^= 1 << generator.randrange(8)
    file.unlink()
    file.write_bytes(bytes(content))


def sealed(source: Path, work: Path) -> Path:
    """Return a copy with checksums, as it is when its step has run; the steps' plain functions write none."""
    copy = work / f"sealed-{source.name}"
    if not copy.exists():
        shutil.copytree(source, copy)
        write_checksums(copy)
    return copy


def images_of(folder: Path) -> object:
    dataset = ImageDataset.read(folder)
    return dataset.spec, dataset.table["label"].tolist(), list(dataset.reader())


def features_of(folder: Path) -> object:
    store = FeatureStore.read(folder)
    return store.spec, store.table["id"].tolist(), [np.asarray(store.tap(name)).tobytes() for name in store.taps]


def bundle_of(folder: Path) -> object:
    bundle = ModelBundle.load(folder)
    return bundle.spec, [tensor.numpy().tobytes() for tensor in bundle.module().state_dict().values()]


def evaluation_of(folder: Path) -> object:
    check_folder(folder)  # as every step does with its inputs
    return read_evaluation(folder), read_predictions(folder)["predicted"].tolist()


READERS: dict[str, Callable[[Path], object]] = {
    "dataset": images_of,
    "features": features_of,
    "head": bundle_of,
    "evaluation": evaluation_of,
}


@pytest.mark.parametrize("name", READERS)
def test_a_flipped_bit(finished_run: FinishedRun, tmp_path: Path, scale: int, count: Count, name: str) -> None:
    source, read, generator = finished_run.folder / name, READERS[name], random.Random(name)
    source = sealed(source, tmp_path)
    before = read(source)
    tries, survived = 20 * scale, 0
    files = sorted(file.relative_to(source) for file in source.rglob("*") if file.is_file() and file.stat().st_size)
    for number in range(tries):
        copy = tmp_path / str(number)
        shutil.copytree(source, copy)
        file = files[number % len(files)] if number < len(files) else generator.choice(files)
        flip(copy / file, generator)
        try:
            survived += read(copy) == before
        except GraftError as error:
            survived += "\n" not in str(error)
        shutil.rmtree(copy)
    count(f"a bit flipped in the files of {name}", tries, survived)


RECORDS = {
    "dataset": ("dataset.json", "max_pixels", 1000),
    "features": ("features.json", "dataset_digest", "0" * 64),
    "head": ("bundle.json", "l2", 0.5),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_that_is_valid_and_says_something_else(
    finished_run: FinishedRun, tmp_path: Path, count: Count, name: str
) -> None:
    folder = sealed(finished_run.folder / name, tmp_path)
    file, field, other = RECORDS[name]
    values = json.loads((folder / file).read_text(encoding="utf-8"))
    assert values[field] != other
    (folder / file).write_text(json.dumps(values | {field: other}), encoding="utf-8")
    with pytest.raises(DamagedError, match=rf"{file}: differs from what was written"):
        READERS[name](folder)
    count("a value changed in the record of an artifact", 1, 1)


@pytest.mark.parametrize("damage", ["removed", "emptied", "cut", "zeros", "swapped"])
def test_a_file_that_is_not_what_it_was(finished_run: FinishedRun, tmp_path: Path, count: Count, damage: str) -> None:
    tried = survived = 0
    for name, read in READERS.items():
        source = sealed(finished_run.folder / name, tmp_path)
        for file in sorted(path.relative_to(source) for path in source.rglob("*") if path.suffix not in ("", ".html")):
            copy = tmp_path / f"{tried}"
            shutil.copytree(source, copy)
            place = copy / file
            content = place.read_bytes()
            place.unlink()
            if damage != "removed":
                changed = {
                    "emptied": b"",
                    "cut": content[: len(content) // 2],
                    "zeros": bytes(len(content)),
                    "swapped": b'{"another": "file"}',
                }
                place.write_bytes(changed[damage])
            tried += 1
            try:
                read(copy)
            except GraftError as error:
                survived += "\n" not in str(error)
            shutil.rmtree(copy)
    count(f"a file of an artifact {damage}", tried, survived)


def test_what_coreutils_says(finished_run: FinishedRun, tmp_path: Path) -> None:
    """The checksums are in the format that every system can check."""
    import subprocess

    for name in READERS:
        folder = sealed(finished_run.folder / name, tmp_path)
        done = subprocess.run(["sha256sum", "--check", "--strict", "--quiet", SUMS_FILE], cwd=folder, check=False)
        assert done.returncode == 0
