"""Every reader of files that somebody else may have written, each with a file that it reads."""

import hashlib
import io
import json
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from graft.adapt.label_check import LabelledCheck
from graft.backbones.feature_store import FeatureStore
from graft.core.tensors import read_arrays
from graft.data.dataset import ImageDataset
from graft.data.fetch import fetch
from graft.data.label_queue import read_queue
from graft.data.listing import list_images
from graft.data.unpack import extract
from graft.evaluation.held_out_table import read_predictions
from graft.evaluation.schema import read_evaluation
from graft.imaging import transform
from graft.masks.mask_file import read_mask
from graft.models.bundle import ModelBundle
from graft.objects.coco import outlined, read_coco
from graft.params.params import Params
from graft.revision.image_list import write_listed_images
from graft.training.checkpoints import Checkpoint
from tests.faults import fuzzed_pages
from tests.faults.model_readers import Attempt, Prepare, fuzzed_file, model_readers
from tests.support.finished_run import CLASSES, FinishedRun
from tests.support.pictures import picture


def readers(run: FinishedRun, root: Path) -> dict[str, Prepare]:
    """Return them by name."""
    pages = {f"page: {name}": fuzzed_pages.shows_names_as_text(one) for name, one in fuzzed_pages.pages().items()}
    return {**_users_files(root), **_packed(), **_artifacts(run), **model_readers(run), **_images(), **pages}


def _users_files(root: Path) -> dict[str, Prepare]:
    queue = b"path,label,suggested,score,decision,new_label\ncat/0.png,cat,dog,0.9,relabel,dog\nb.png,dog,cat,0.5,,\n"
    manifest = b"path,label,split\ncat/0.png,cat,train\n"
    table = "path,label\ncat/0.png,ant\n"
    content = io.BytesIO()
    picture(0, 0).save(content, "PNG")
    ids = f"id\n{hashlib.sha256(content.getvalue()).hexdigest()}\n".encode()

    def check(file: Path) -> object:
        return len(LabelledCheck.read(file, file.parent, CLASSES).contents())

    return {
        "folder with a manifest": _text_file(manifest, "manifest.csv", lambda file: list_images(file.parent)),
        "manifest as the data": _text_file(manifest, "own.csv", lambda file: fetch(str(file), _new(file.parent))),
        "review queue": _text_file(queue, "queue.csv", read_queue),
        "labelled check": _text_file(table.encode(), "check.csv", check),
        "ids to forget": _text_file(
            ids, "ids.csv", lambda file: write_listed_images(file, file.parent / "cat", _new(file.parent))
        ),
        "params.yaml": _text_file((root / "params.yaml").read_bytes(), "params.yaml", Params.load),
        "COCO file": _text_file(json.dumps(_coco()).encode(), "objects.json", _outlines),
        "mask": lambda work: (_encoded_mask(), lambda data: read_mask(data).values.sum()),
    }


def _packed() -> dict[str, Prepare]:
    def unpacked(name: str) -> Callable[[Path], object]:
        def read(file: Path) -> object:
            folder = _new(file.parent)
            before = set(file.parent.iterdir())
            try:
                return extract(file, folder)
            finally:
                more = set(file.parent.iterdir()) - before - {folder}
                assert not more, f"{name} wrote outside of its folder: {more}"

        return read

    def set_of(file: Path) -> object:
        return fetch(str(file), _new(file.parent))

    found = {
        "archive: zip": _text_file(_zip(), "a.zip", unpacked("a zip")),
        "archive: tar.gz": _text_file(_tar("w:gz"), "a.tar.gz", unpacked("a tar")),
        "packed: parquet": _text_file(_parquet(), "a.parquet", set_of),
        "packed: tar": _text_file(_tar("w"), "a.tar", set_of),
    }
    for name in ("state.json", "dataset_info.json", "data-00000-of-00001.arrow"):
        found[f"packed: {name}"] = _saved_set(name, set_of)
    return found


def _artifacts(run: FinishedRun) -> dict[str, Prepare]:
    taps = sorted((run.folder / "features" / "taps").iterdir())

    def images(folder: Path) -> object:
        return list(ImageDataset.read(folder).reader())

    def tap(folder: Path) -> object:
        return float(FeatureStore.read(folder).tap(taps[-1].stem.partition("-")[2]).sum())

    return {
        "checkpoint": _text_file(_checkpoint(), "one.safetensors", lambda file: Checkpoint(file).read()),
        "tensors": _text_file((run.model / "head.safetensors").read_bytes(), "a.safetensors", read_arrays),
        "dataset: json": fuzzed_file(run.dataset, "dataset.json", images),
        "dataset: table": fuzzed_file(run.dataset, "table.parquet", images),
        "dataset: images": fuzzed_file(run.dataset, "train/data-00000.arrow", images),
        "features: json": fuzzed_file(run.folder / "features", "features.json", FeatureStore.read),
        "features: array": fuzzed_file(run.folder / "features", f"taps/{taps[-1].name}", tap),
        "bundle: json": fuzzed_file(run.model, "bundle.json", ModelBundle.load),
        "bundle: head": fuzzed_file(run.model, "head.safetensors", ModelBundle.load),
        "evaluation": fuzzed_file(run.evaluation, "scores.json", read_evaluation),
        "predictions": fuzzed_file(run.evaluation, "predictions.parquet", read_predictions),
    }


def _images() -> dict[str, Prepare]:
    options = {"JPEG": {}, "PNG": {}, "WEBP": {}, "BMP": {}, "GIF": {}, "TIFF": {"compression": "tiff_lzw"}}

    def of(kind: str, chosen: dict[str, str]) -> Prepare:
        content = io.BytesIO()
        picture(0, 0, 48).save(content, kind, **chosen)
        return lambda work: (content.getvalue(), lambda data: transform.decode(data).sum())

    return {f"image: {kind}": of(kind, chosen) for kind, chosen in options.items()}


def _text_file(content: bytes, name: str, read: Callable[[Path], object]) -> Prepare:
    """Fuzz a file that lies beside a folder with one image."""

    def prepare(work: Path) -> tuple[bytes, Attempt]:
        work.mkdir()
        (work / "cat").mkdir()
        picture(0, 0).save(work / "cat" / "0.png")

        def attempt(changed: bytes) -> object:
            (work / name).write_bytes(changed)
            return read(work / name)

        return content, attempt

    return prepare


def _new(folder: Path) -> Path:
    """Return a path of a folder that does not exist, always the same one."""
    made = folder / "made"
    shutil.rmtree(made, ignore_errors=True)
    return made


def _png(number: int = 0) -> bytes:
    content = io.BytesIO()
    picture(number % 2, number).save(content, "PNG")
    return content.getvalue()


def _encoded_mask() -> bytes:
    content = io.BytesIO()
    image = Image.fromarray((np.arange(64).reshape(8, 8) % 3).astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    image.save(content, "PNG")
    return content.getvalue()


def _zip() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"photos/cat/{number}.png", _png(number))
    return content.getvalue()


def _tar(mode: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:  # type: ignore[call-overload]
        for number in range(3):
            for ending, data in (("png", _png(number)), ("cls", b"cat"), ("json", b'{"patient": "a"}')):
                member = tarfile.TarInfo(f"photos/{number}.{ending}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


def _table() -> pa.Table:
    """Return a table as `datasets` writes it: images as bytes and path, labels as numbers of named classes."""
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}
    described = json.dumps({"info": {"features": features}}).encode()
    images = [{"bytes": _png(number), "path": f"{number}.png"} for number in range(6)]
    table = pa.table({"image": images, "label": [number % 2 for number in range(6)]})
    return table.replace_schema_metadata({b"huggingface": described})


def _parquet() -> bytes:
    content = io.BytesIO()
    pq.write_table(_table(), content)
    return content.getvalue()


def _saved_set(name: str, read: Callable[[Path], object]) -> Prepare:
    """Fuzz one file of a folder that `save_to_disk` of `datasets` writes."""

    def prepare(work: Path) -> tuple[bytes, Attempt]:
        folder = work / "set"
        folder.mkdir(parents=True)
        data = "data-00000-of-00001.arrow"
        (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": data}], "_split": None}))
        (folder / "dataset_info.json").write_text(json.dumps({"features": {}}))
        with pa.OSFile(str(folder / data), "wb") as file, pa.ipc.new_stream(file, _table().schema) as writer:
            writer.write_table(_table())

        def attempt(content: bytes) -> object:
            (folder / name).write_bytes(content)
            return read(folder)

        return (folder / name).read_bytes(), attempt

    return prepare


def _coco() -> dict[str, object]:
    square = [[2.0, 2.0, 10.0, 2.0, 10.0, 10.0, 2.0, 10.0]]
    return {
        "images": [{"id": 1, "file_name": "cat/0.png", "height": 24, "width": 24}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": square, "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 1, "segmentation": {"size": [24, 24], "counts": [100, 76, 400]}},
        ],
    }


def _outlines(file: Path) -> object:
    found = read_coco(file)
    sizes = {name: size or (24, 24) for name, size in found.photos.items()}
    return [outlined(one.segmentation, *sizes[name]) for name, objects in found.objects.items() for one in objects]


def _checkpoint() -> bytes:
    import torch

    with tempfile.TemporaryDirectory() as folder:
        one = Checkpoint(Path(folder) / "one.safetensors")
        one.write(lambda: {"a": torch.arange(12.0), "b": torch.zeros(3)}, due=True)
        return one.file.read_bytes()
