"""What registering, serving and predicting need of a model, for each kind of task about pixels."""

import base64
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from graft.backbones.weights import tensors_digest
from graft.core.atomic import write_json
from graft.core.errors import DataError, ModelError
from graft.decoders.assessment import predicted
from graft.decoders.mask_bundle import MaskBundle
from graft.decoders.mask_scores import MaskEvaluation
from graft.dense.pixel_scores import read_scores
from graft.detectors.assessment import predicted as predicted_objects
from graft.detectors.detector_bundle import DetectorBundle
from graft.detectors.instance_scores import InstanceEvaluation
from graft.imaging.decode import decode
from graft.masks.dataset import MaskDataset
from graft.masks.mask_file import read_mask, write_mask
from graft.masks.overlay import drawn, jpeg, shrunk
from graft.objects.coco import results
from graft.objects.object_dataset import ObjectDataset
from graft.objects.overlay import with_objects
from graft.pixel_serving import detector_server
from graft.pixel_serving.mask_server import COLUMNS
from graft.pixel_serving.pixel_packaging import Served, export_program
from graft.serving.server import PROGRAM_FILE
from graft.tasks.pixels import pixel_task

OVERLAY_SIDE = 800
RESULTS_FILE = "results.json"
Evaluated = MaskEvaluation | InstanceEvaluation


class PixelModel(ABC):
    """A model of masks or objects, opened."""

    served: Served
    digest: str
    """Of its tensors."""
    backbone: str

    @abstractmethod
    def write_network(self, folder: Path) -> dict[str, Any]:
        """Write what a server loads into `folder`; return the content of its `serving.json`."""

    @abstractmethod
    def difference(self, table: pd.DataFrame, photos: Sequence[bytes]) -> float:
        """Return how far a server's answers are from this model's, 0 to 1."""

    @abstractmethod
    def photo_scores(self, data: MaskDataset, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return the score of every photo that the gate compares, (n,)."""

    @abstractmethod
    def write_answers(self, photos: Iterator[tuple[str, bytes]], out: Path) -> Iterator[Mapping[str, Any]]:
        """Write the answers for named photos into `out`; yield one row of the table for each."""


class SegmentModel(PixelModel):
    """A model of task segment."""

    served = Served("graft.pixel_serving.mask_server", "MaskServer", COLUMNS)

    def __init__(self, folder: Path) -> None:
        self.bundle = MaskBundle.load(folder)
        self.digest = tensors_digest(self.bundle.network.state_dict())
        self.backbone = self.bundle.spec.backbone.architecture

    def write_network(self, folder: Path) -> dict[str, Any]:
        """Write the exported program, whose logits are calibrated already."""
        export_program(self.bundle.pixel_network(), self.bundle.transform.shape, folder / PROGRAM_FILE)
        spec = self.bundle.spec
        return {
            "labels": list(spec.labels),
            "task": spec.task.model_dump(mode="json"),
            "transform": self.bundle.transform.model_dump(mode="json"),
        }

    def difference(self, table: pd.DataFrame, photos: Sequence[bytes]) -> float:
        """Return the largest share of pixels of a photo that have another class."""
        worst = 0.0
        for text, own in zip(table["mask"], self.bundle.answers(iter(photos)), strict=True):
            theirs = read_mask(base64.b64decode(text)).values
            worst = max(worst, 1.0 if theirs.shape != own.mask.shape else float((theirs != own.mask).mean()))
        return worst

    def photo_scores(self, data: MaskDataset, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return the mean IoU of every photo."""
        return predicted(self.bundle, data, rows, "champion").photos["mean_iou"].to_numpy(dtype=np.float64)

    def write_answers(self, photos: Iterator[tuple[str, bytes]], out: Path) -> Iterator[Mapping[str, Any]]:
        """Write a mask and an overlay for every photo, under its path."""
        for path, content in photos:
            (got,) = self.bundle.answers([content])
            name = Path(path).with_suffix(".png")
            small = shrunk(decode(content, self.bundle.transform.max_pixels), OVERLAY_SIDE)
            _write(out / "masks" / name, write_mask(got.mask))
            _write(out / "overlays" / name.with_suffix(".jpg"), jpeg(drawn(small, got.mask)))
            labels = self.bundle.spec.labels
            sure = dict(zip(labels, got.confidence, strict=True))
            yield {
                "mask": (Path("masks") / name).as_posix(),
                "predicted_iou": got.predicted_iou,
                **{f"share:{label}": share for label, share in zip(labels, got.share, strict=True)},
                **{f"confidence:{label}": sure[label] for label in labels},
            }


class InstancesModel(PixelModel):
    """A model of task instances."""

    served = Served("graft.pixel_serving.detector_server", "DetectorServer", detector_server.COLUMNS)

    def __init__(self, folder: Path) -> None:
        self.bundle = DetectorBundle.load(folder)
        self.digest = tensors_digest(self.bundle.network.state_dict())
        self.backbone = self.bundle.spec.backbone.architecture

    def write_network(self, folder: Path) -> dict[str, Any]:
        """Write the bundle itself: proposals have no fixed number, so there is no exported program."""
        self.bundle.save(folder / detector_server.BUNDLE_FOLDER)
        spec = self.bundle.spec
        return {"labels": list(spec.labels), "task": spec.task.model_dump(mode="json"), "score": spec.score}

    def difference(self, table: pd.DataFrame, photos: Sequence[bytes]) -> float:
        """Return the largest share of pixels of a photo that belong to an object in one of the answers alone.

        Another number of objects, or another class, counts as all of them.
        """
        worst = 0.0
        theirs = (detector_server.instances(row) for row in table.to_dict("records"))
        own = (self.bundle.kept(found) for found in self.bundle.answers(iter(photos)))
        for a, b in zip(theirs, own, strict=True):
            if [name for name, _ in a] != [self.bundle.spec.labels[one.label] for one in b]:
                return 1.0
            for (_, code), one in zip(a, b, strict=True):
                worst = max(worst, float((code.mask() != one.code.mask()).mean()))
        return worst

    def photo_scores(self, data: MaskDataset, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return F1 of every photo's objects."""
        objects = ObjectDataset(data.path, data.spec, data.table)
        return predicted_objects(self.bundle, objects, rows, "champion").photos["photo_f1"].to_numpy(dtype=np.float64)

    def write_answers(self, photos: Iterator[tuple[str, bytes]], out: Path) -> Iterator[Mapping[str, Any]]:
        """Write an overlay for every photo, and all objects as one file of COCO results."""
        labels = self.bundle.spec.labels
        found: list[dict[str, Any]] = []
        for number, (path, content) in enumerate(photos):
            (answer,) = self.bundle.answers([content])
            kept = self.bundle.kept(answer)
            small = shrunk(decode(content, self.bundle.transform.max_pixels), OVERLAY_SIDE)
            name = Path(path).with_suffix(".jpg")
            _write(out / "overlays" / name, jpeg(with_objects(small, kept)))
            found += results([answer], [number], {at: at + 1 for at in range(len(labels))})
            yield {
                "overlay": (Path("overlays") / name).as_posix(),
                "image_id": number,
                "objects": len(kept),
                **{f"objects:{label}": sum(one.label == at for one in kept) for at, label in enumerate(labels)},
                "least_score": min((one.score for one in kept), default=None),
            }
        write_json(out / RESULTS_FILE, found)


def read_evaluation(folder: Path) -> tuple[Evaluated, pd.DataFrame]:
    """Read the scores of a model of masks or objects, and its table of photos.

    Raises:
        DataError: if the folder has none.
    """
    task = pixel_task(folder)
    if task is None:
        raise DataError(f"{folder}: no evaluation of masks or objects here; run evaluate")
    return read_scores(folder, MaskEvaluation if task.kind == "segment" else InstanceEvaluation)


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def open_model(folder: Path) -> PixelModel:
    """Open the bundle of a model of masks or objects.

    Raises:
        ModelError: if the folder has none.
    """
    task = pixel_task(folder)
    if task is None:
        raise ModelError(f"{folder}: no model of masks or objects here")
    return SegmentModel(folder) if task.kind == "segment" else InstancesModel(folder)
