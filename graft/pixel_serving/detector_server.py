"""The code that runs on a server for task instances: photos in, objects out, their masks as COCO's run-length codes.

It runs the network with PyTorch: proposals have no fixed number, which exported programs need.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from graft.core.errors import DataError
from graft.detectors.detector_bundle import DetectorBundle
from graft.imaging.decode import open_image
from graft.objects.run_length import RunLength
from graft.serving.limits import Admission, BusyError

BUNDLE_FOLDER = "detector"
COLUMNS = {
    "labels": "texts",
    "scores": "numbers",
    "boxes": "boxes",
    "masks": "texts",
    "height": "number",
    "width": "number",
}
"""What an answer has: for each object its class, score, box (left, top, width, height) and mask (the counts of COCO's
run-length code); and the photo's own height and width, which belong to the codes."""


class DetectorServer:
    """The network with its labels."""

    def __init__(self, bundle: DetectorBundle) -> None:
        self._bundle = bundle
        self._admission = Admission()

    @classmethod
    def load(cls, folder: Path) -> "DetectorServer":
        """Read the files of a packed model; none of them is a pickle."""
        return cls(DetectorBundle.load(folder / BUNDLE_FOLDER))

    def predict(self, photos: Sequence[bytes]) -> pd.DataFrame:
        """Return one row per photo, see `COLUMNS`; objects whose score does not count are left out.

        Raises:
            DataError: if one is not an image; it names the row.
        """
        rows = []
        for row, photo in enumerate(photos):
            try:
                with self._admission.decoding(photo, self._bundle.spec.backbone.transform) as limited:
                    open_image(photo, limited.max_pixels)  # refused by its header
                    ((objects, (height, width)),) = self._bundle.sized_answers([photo])
            except BusyError:
                raise
            except DataError as error:
                raise DataError(f"row {row}: {error}") from error
            kept = self._bundle.kept(objects)
            rows.append(
                {
                    "labels": [self._bundle.spec.labels[one.label] for one in kept],
                    "scores": [one.score for one in kept],
                    "boxes": [list(one.box) for one in kept],
                    "masks": [one.code.counts for one in kept],
                    "height": float(height),
                    "width": float(width),
                }
            )
        return pd.DataFrame(rows, columns=list(COLUMNS))


def instances(row: Mapping[Any, Any]) -> list[tuple[str, RunLength]]:
    """Return the class and mask of every object of one answer."""
    height, width = int(row["height"]), int(row["width"])
    return [
        (str(label), RunLength(height, width, str(counts)))
        for label, counts in zip(row["labels"], row["masks"], strict=True)
    ]
