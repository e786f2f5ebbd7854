"""Readers of what belongs to a model: its past, its packed form on a server, objects to learn; and of requests."""

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from fastapi import HTTPException

from graft.backbones.weights import read_tensors
from graft.continual.state import ContinualState
from graft.core.checksums import SUMS_FILE
from graft.core.errors import DataError
from graft.evaluation.schema import read_roc
from graft.heads.out_of_fold import read_out_of_fold
from graft.labelling.kept_features import read_features
from graft.models.bundle import ModelBundle
from graft.objects.instance import annotated
from graft.objects.object_dataset import COLUMNS, OBJECTS_FILE, read_objects
from graft.objects.run_length import encode
from graft.runs.store_file import ensure_complete
from graft.serving.packaging import example_images
from graft.serving.registered_content import check_content
from graft.serving.server import Classifier
from graft.serving.training_images import TRAINING_IMAGES_FILE, TrainingImages
from graft.web.images_in_request import _in_json
from tests.support.finished_run import CLASSES, FinishedRun
from tests.support.packed_model import pack_untrained

Attempt = Callable[[bytes], object]
Prepare = Callable[[Path], tuple[bytes, Attempt]]
"""Given a folder to work in, returns the content of a good file, and what reads a changed one."""


def model_readers(run: FinishedRun) -> dict[str, Prepare]:
    """Return them by name."""
    ids = _training_ids(run)

    def out_of_fold(folder: Path) -> object:
        return read_out_of_fold(folder, ids, CLASSES)

    def save(file: Path) -> None:
        np.save(file, np.ones((3, 4), np.float16))

    return {
        "bundle: history": fuzzed_file(run.model, "history.json", ContinualState.load),
        "bundle: memory": fuzzed_file(run.model, "memory.safetensors", ContinualState.load),
        "bundle: moments": fuzzed_file(run.model, "moments.safetensors", ModelBundle.load),
        "bundle: out of fold": fuzzed_file(run.model, "out_of_fold.safetensors", out_of_fold),
        "served: form": _served("artifacts/network/serving.json"),
        "served: example": _served("input_example.json"),
        "served: abstention": _served("artifacts/network/trust.safetensors"),
        "served: program": _served("artifacts/network/program.pt2"),
        "weights file": _made("weights.pth", _write_weights, read_tensors),
        "objects": _made(OBJECTS_FILE, _write_objects, lambda file: read_objects(file.parent, 2)),
        "ROC curve": _made("plots/roc.csv", _write_roc, lambda file: read_roc(file.parent.parent)),
        "kept features": _made("0.npy", save, read_features),
        "training images": _made(TRAINING_IMAGES_FILE, save, lambda file: TrainingImages.read(file.parent)),
        "MLflow store": lambda work: _store(run, work),
        "request": lambda work: (_request(), _answer_to),
    }


def fuzzed_file(source: Path, name: str, read: Callable[[Path], object]) -> Prepare:
    """Fuzz one file of an artifact that has no checksums, which would find everything."""

    def prepare(work: Path) -> tuple[bytes, Attempt]:
        shutil.copytree(source, work, ignore=shutil.ignore_patterns(SUMS_FILE))
        return (source / name).read_bytes(), _replacing(work / name, lambda: read(work))

    return prepare


def _served(name: str) -> Prepare:
    """Fuzz a file of a packed model of an earlier version, which has no checksums."""

    def prepare(work: Path) -> tuple[bytes, Attempt]:
        work.mkdir()
        pack_untrained(work)
        for sums in work.rglob(SUMS_FILE):
            sums.unlink()
        model = work / "model"

        def read() -> None:
            check_content(model, {}, "models:/insects/1")
            Classifier.load(model / "artifacts" / "network")
            example_images(model)

        return (model / name).read_bytes(), _replacing(model / name, read)

    return prepare


def _made(name: str, write: Callable[[Path], object], read: Callable[[Path], object]) -> Prepare:
    def prepare(work: Path) -> tuple[bytes, Attempt]:
        file = work / name
        file.parent.mkdir(parents=True)
        write(file)
        return file.read_bytes(), _replacing(file, lambda: read(file))

    return prepare


def _replacing(file: Path, read: Callable[[], object]) -> Attempt:
    def attempt(content: bytes) -> object:
        file.unlink(missing_ok=True)  # another file, not another content of one that may be mapped
        file.write_bytes(content)
        return read()

    return attempt


def _training_ids(run: FinishedRun) -> list[str]:
    table = pd.read_parquet(run.dataset / "table.parquet")
    return list(table["id"][table["split"] == "train"])


def _write_weights(file: Path) -> None:
    torch.save({"state_dict": {"head.weight": torch.ones(2, 3), "head.bias": torch.zeros(2)}}, file)


def _write_objects(file: Path) -> None:
    masks = [np.eye(8, 6, dtype=bool), np.tri(5, 9, dtype=bool)]
    objects = [annotated(number, encode(mask)) for number, mask in enumerate(masks)]
    rows = [(at, one.label, one.code.height, one.code.width, one.code.counts, False) for at, one in enumerate(objects)]
    pd.DataFrame(rows, columns=list(COLUMNS)).to_parquet(file)


def _write_roc(file: Path) -> None:
    file.write_text("false_positive_rate,true_positive_rate,threshold\n0.0,0.0,inf\n0.5,1.0,0.25\n")


def _store(run: FinishedRun, work: Path) -> tuple[bytes, Attempt]:
    work.mkdir()

    def attempt(content: bytes) -> None:
        for file in work.iterdir():
            file.unlink()
        (work / "mlflow.db").write_bytes(content)
        ensure_complete(work / "mlflow.db")

    return (run.folder / "mlflow.db").read_bytes(), attempt


def _request() -> bytes:
    return json.dumps({"images": [base64.b64encode(b"a picture").decode()] * 2}).encode()


def _answer_to(body: bytes) -> object:
    try:
        return _in_json(body)
    except HTTPException as error:
        raise DataError(error.detail) from error
