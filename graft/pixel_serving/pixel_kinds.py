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
from graft.core.errors import ModelError
from graft.decoders.assessment import predicted
from graft.decoders.mask_bundle import MaskBundle
from graft.imaging.decode import decode
from graft.masks.dataset import MaskDataset
from graft.masks.mask_file import read_mask, write_mask
from graft.masks.overlay import drawn, jpeg, shrunk
from graft.pixel_serving.mask_server import COLUMNS
from graft.pixel_serving.pixel_packaging import Served, export_program
from graft.serving.server import PROGRAM_FILE
from graft.tasks.pixels import pixel_task

OVERLAY_SIDE = 800


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
    return SegmentModel(folder)
