"""The code that runs on a server for task segment: photos in, masks as PNG out. It needs no backbone's library."""

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict

from graft.core.boundary import readable
from graft.core.errors import DataError, ModelError
from graft.decoders.answers import MaskAnswer, answer
from graft.imaging.letterbox import letterbox
from graft.imaging.transform import Transform
from graft.masks.mask_file import write_mask
from graft.serving.limits import Admission, BusyError
from graft.serving.server import PACK_AGAIN, PROGRAM_FILE, SPEC_FILE, load_program
from graft.tasks.pixels import PixelTask

COLUMNS = {"mask": "text", "share": "map", "confidence": "map", "predicted_iou": "number"}
"""What an answer has: a PNG of class indices at the photo's own size, as base64; shares and confidence by class."""


class MaskServingSpec(BaseModel):
    """Everything that the server needs besides the network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: tuple[str, ...]
    task: PixelTask
    transform: Transform


class MaskServer:
    """The network with its transform and labels."""

    def __init__(self, spec: MaskServingSpec, network: torch.nn.Module) -> None:
        self.spec = spec
        self._network = network
        self._admission = Admission()

    @classmethod
    def load(cls, folder: Path) -> "MaskServer":
        """Read the files of a packed model.

        Raises:
            ModelError: if one cannot be read, or contains a pickle, which could run any code.
        """
        with readable(folder / SPEC_FILE, PACK_AGAIN, ModelError):
            spec = MaskServingSpec.model_validate_json((folder / SPEC_FILE).read_text(encoding="utf-8"))
        return cls(spec, load_program(folder / PROGRAM_FILE))

    def predict(self, photos: Sequence[bytes]) -> pd.DataFrame:
        """Return one row per photo, see `COLUMNS`.

        Raises:
            DataError: if one is not an image; it names the row.
        """
        rows = [
            {"mask": base64.b64encode(write_mask(found.mask)).decode(), **found.columns(self.spec.labels)}
            for found in self.answers(photos)
        ]
        table = pd.DataFrame(rows, columns=list(COLUMNS))
        table["mask"] = table["mask"].astype(object)
        return table

    def answers(self, photos: Sequence[bytes]) -> Iterator[MaskAnswer]:
        """Yield the answer for every photo."""
        transform = self.spec.transform
        for row, photo in enumerate(photos):
            try:
                with self._admission.decoding(photo, transform) as limited:
                    square, box = letterbox(photo, limited)
            except BusyError:
                raise
            except DataError as error:
                raise DataError(f"row {row}: {error}") from error
            with torch.inference_mode():
                logits = self._network(square[None])[0]
            yield answer(logits, box, transform.size)
