"""Predict a folder with a model of masks or objects: the answers as files, and a table with one row per photo."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from graft.batch_prediction.folder_prediction import image_files
from graft.batch_prediction.tables import CSV, PARQUET
from graft.core.atomic import replacing
from graft.core.errors import DataError
from graft.core.parquet import write_table
from graft.core.progress import progress
from graft.data.safe_paths import read_bytes
from graft.imaging.decode import decode
from graft.pixel_serving.pixel_kinds import PixelModel
from graft.runs.run_log import Log


def predict_photos(model: PixelModel, folder: Path, out: Path, log: Log) -> dict[str, Any]:
    """Write masks, overlays and tables into `out`; a photo that cannot be read gets a row with its error.

    Drift is not measured for these tasks.

    Raises:
        DataError: if there is no image file, or none can be read.
    """
    files = image_files(folder)
    faults: dict[str, str] = {}

    def readable() -> Iterator[tuple[str, bytes]]:
        for path in progress(files, "predict", total=len(files)):
            try:
                content = read_bytes(folder / path)
                decode(content)
            except DataError as error:
                faults[path] = str(error)
                continue
            good.append(path)
            yield path, content

    good: list[str] = []
    answers = list(model.write_answers(readable(), out))
    if not answers:
        raise DataError(f"{folder}: none of {len(files)} image files can be read ({next(iter(faults.values()))})")
    rows = [{"path": path, **answer, "error": None} for path, answer in zip(good, answers, strict=True)]
    rows += [{"path": path, "error": text} for path, text in faults.items()]
    table = pd.DataFrame(rows).sort_values("path").reset_index(drop=True)
    table = table[[*(name for name in table.columns if name != "error"), "error"]]
    write_table(out / PARQUET, table)
    with replacing(out / CSV) as temporary:
        table.to_csv(temporary, index=False)
    log.metric("images", len(files))
    log.metric("errors", len(faults))
    return {"images": len(files), "errors": len(faults), "table": str(out / PARQUET)}
