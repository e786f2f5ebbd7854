"""Predict a folder of images in parts: memory use stays small, and an interrupted run resumes.

The output folder holds `predictions.parquet` and `predictions.csv` (one row per image, see `schema`), and `.parts`: one
file for each 512 images in the order of their paths, kept until one of these images changes, with their features.
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet as pq
import torch

from graft.batch_prediction.tables import BatchResult, merge, schema
from graft.core.atomic import remove, replacing
from graft.core.boundary import readable
from graft.core.digest import folder_digest
from graft.core.errors import DataError, GraftError
from graft.core.progress import progress
from graft.data.copying import walk_files
from graft.data.manifest import MANIFEST
from graft.data.safe_paths import read_bytes, read_head
from graft.data.source import SOURCE_FILE, read_source
from graft.evaluation.held_out_table import PREDICTIONS_FILE, probabilities_of, read_predictions
from graft.evaluation.schema import task_evaluation
from graft.imaging.signatures import HEAD_BYTES, is_image
from graft.labelling.kept_features import keeps_features, read_features, standardised, write_features
from graft.labelling.pool import Half
from graft.models.bundle import ModelBundle
from graft.models.export import PixelNetwork, pixel_network
from graft.models.prediction_table import table_columns
from graft.serving.loading import load_packed_bundle
from graft.serving.packaging import BUNDLE, EVIDENCE
from graft.serving.registered_content import download_checked
from graft.stats.decision_rule import Rule
from graft.stats.drift import PredictionSample
from graft.tasks.task import Task

PARTS = ".parts"
PART_IMAGES = 512
BATCH = 16
THREADS = 2


@dataclass(frozen=True)
class BatchModel:
    """A model with the predictions that new ones are compared with."""

    bundle: ModelBundle
    digest: str
    """Of everything that its answers depend on: the bundle's files, and the decision rule if there is one."""
    reference: PredictionSample | None
    """Its predictions for held-out images; None for a bare bundle."""
    further_references: tuple[PredictionSample | None, ...] = ()
    """Those of the tasks after the first."""

    @classmethod
    def load(cls, address: str, work: Path) -> "BatchModel":
        """Load a bundle's folder or a registered model.

        Args:
            address: a folder, `models:/name@alias` or `models:/name/version`.
            work: an empty folder for downloads.

        Raises:
            ModelError: if the folder holds no bundle.
            RegistryError: if the registry has no such model.
        """
        if not address.startswith("models:/"):
            bundle = ModelBundle.load(address)
            return cls(bundle, folder_digest(Path(address)), None, (None,) * len(bundle.further))
        folder = download_checked(address, work)
        bundle, artifacts = load_packed_bundle(folder), folder / "artifacts"
        rules = [one.rule.model_dump_json() for one in bundle.by_task if one.rule]
        places = [
            artifacts / EVIDENCE,
            *(task_evaluation(artifacts / EVIDENCE, one.task.name) for one in bundle.further),
        ]
        first, *further = (
            reference_predictions(place, one.task, one.rule) for place, one in zip(places, bundle.by_task, strict=True)
        )
        return cls(bundle, folder_digest(artifacts / BUNDLE) + "".join(rules), first, tuple(further))


def reference_predictions(evidence: Path, task: Task, rule: Rule | None = None) -> PredictionSample | None:
    """Return a model's predictions for its validation and test images, from the evidence packed with it."""
    if not (evidence / PREDICTIONS_FILE).is_file():
        return None
    table = read_predictions(evidence)
    found = task.answers(probabilities_of(table), rule)
    ood_scores = table["ood"].dropna().to_numpy(np.float64) if "ood" in table else None
    return PredictionSample(task.categorised(found.chosen), found.confidence, ood_scores)


def predict_folder(model: BatchModel, folder: Path, out: Path) -> BatchResult:
    """Predict every image below `folder` and write the tables into `out`.

    A file that cannot be read gets a row with its error and no answer.

    Raises:
        DataError: if there is no image file.
    """
    files = image_files(folder)
    parts = out / PARTS
    parts.mkdir(parents=True, exist_ok=True)
    chunks = [files[start : start + PART_IMAGES] for start in range(0, len(files), PART_IMAGES)]
    names = [_part_name(number, folder, chunk, model.digest) for number, chunk in enumerate(chunks)]
    current = {Path(name).stem for name in names}
    for stale in (file for file in parts.iterdir() if file.stem not in current):
        remove(stale)
    missing = [
        (name, chunk) for name, chunk in zip(names, chunks, strict=True) if not _kept(parts / name, model, len(chunk))
    ]
    total = sum(len(chunk) for _, chunk in missing)
    rows = progress((path for _, chunk in missing for path in chunk), "predict", total)
    network = pixel_network(model.bundle.all_heads) if missing else None
    for name, chunk in missing:
        assert network is not None
        seen: list[Half] = []
        table = pa.Table.from_pylist(list(_answers(model, network, folder, chunk, rows, seen)), schema(model.bundle))
        if keeps_features(model.bundle):
            write_features(parts / name, seen)
        with replacing(parts / name) as temporary:
            pq.write_table(table, temporary, write_page_checksum=True)
    return merge([parts / name for name in names], out, model.bundle, reused=len(files) - total)


def image_files(folder: Path) -> list[str]:
    """Return the sorted relative paths of the files below `folder`: what is no image gets a row that says so.

    Raises:
        DataError: if none is an image by content or name (`signatures.is_image`).
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of images")
    files = sorted(walk_files(folder))
    if SOURCE_FILE in files and read_source(folder) is not None:
        files.remove(SOURCE_FILE)  # get_data wrote it beside the images
    if MANIFEST in files:
        files.remove(MANIFEST)  # labels of some of the images (see `label_queue`)
    if not any(_is_image(folder / path) for path in files):
        raise DataError(f"{folder}: no image files")
    return files


def _is_image(file: Path) -> bool:
    try:
        return is_image(file.name, read_head(file, HEAD_BYTES))
    except DataError:
        return False


def _answers(
    model: BatchModel,
    network: PixelNetwork,
    folder: Path,
    chunk: Sequence[str],
    rows: Iterator[str],
    seen: list[Half],
) -> Iterator[dict[str, Any]]:
    def pixels(path: str) -> torch.Tensor | str:
        try:
            return model.bundle.transform.pixels(read_bytes(folder / path))
        except DataError as error:
            return str(error)

    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(chunk), BATCH):
            paths = chunk[start : start + BATCH]
            decoded = list(pool.map(pixels, paths))
            good = [image for image in decoded if isinstance(image, torch.Tensor)]
            found = _table(model.bundle, network, good, seen) if good else iter(())
            for path, image in zip(paths, decoded, strict=True):
                next(rows)
                yield {"path": path} | ({"error": image} if isinstance(image, str) else next(found))


def _table(
    bundle: ModelBundle, network: PixelNetwork, pixels: Sequence[torch.Tensor], seen: list[Half]
) -> Iterator[dict[str, Any]]:
    with torch.inference_mode():
        *logits, features = network(torch.stack(list(pixels)))
    if keeps_features(bundle):
        seen.append(standardised(bundle, features.numpy()))
    columns = table_columns(bundle, torch.cat(logits, dim=1).numpy(), features.numpy())
    for number in range(len(pixels)):
        yield {name: values[number] for name, values in columns.items()}


def _kept(part: Path, model: BatchModel, images: int) -> bool:
    """Return whether an earlier run wrote the answers for these images; a damaged file is predicted again."""
    if not part.is_file():
        return False
    try:
        with readable(part):
            table = pq.read_table(part, schema=schema(model.bundle), page_checksum_verification=True)
            if keeps_features(model.bundle):
                features = read_features(part)
                if features is None or len(features) != table["error"].null_count:
                    return False
            return len(table) == images
    except GraftError:
        remove(part)
        return False


def _part_name(number: int, folder: Path, chunk: Sequence[str], digest: str) -> str:
    """Name a part by its number and a digest of everything that its rows depend on."""
    content = hashlib.sha256(digest.encode())
    for path in chunk:
        status = (folder / path).lstat()
        content.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return f"{number:06d}-{content.hexdigest()[:24]}.parquet"
