"""The table of the answers to every test and validation image, `predictions.parquet`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from graft.core.atomic import replacing
from graft.core.errors import DataError
from graft.core.parquet import read_table, write_table
from graft.tasks.task import Task

PREDICTIONS_FILE = "predictions.parquet"
PREDICTION_COLUMNS = (
    "id",
    "path",
    "group",
    "split",
    "label",
    "predicted",
    "probability",  # of the predicted label
    "probabilities",  # of every class, in the order of the classes
    "head_predicted",
    "head_probability",
    "head_probabilities",
)
"""Of a model with a detector also `ood`, the out-of-distribution score."""


def prediction_table(
    table: pd.DataFrame, task: Task, probabilities: Mapping[str, npt.NDArray[np.floating]]
) -> pd.DataFrame:
    """Return `PREDICTION_COLUMNS` for the rows of a dataset's table.

    Args:
        table: of n images: id, path, group, split, and the columns that the task reads its targets from.
        task: what was learnt.
        probabilities: (n, k) by prefix: "" for the model, "head_" for the head.
    """
    columns: dict[str, Any] = {name: table[name].to_numpy() for name in ("id", "path", "group", "split")}
    columns["label"] = np.asarray(task.names(task.targets(table)), dtype=object)
    for prefix, values in probabilities.items():
        found = task.answers(values)
        columns[f"{prefix}predicted"] = np.asarray(task.texts(found.chosen, values), dtype=object)
        columns[f"{prefix}probability"] = found.confidence
        columns[f"{prefix}probabilities"] = list(values)
    return pd.DataFrame(columns)


def write_predictions(folder: Path, table: pd.DataFrame) -> None:
    """Write `predictions.parquet` into `folder`."""
    with replacing(folder / PREDICTIONS_FILE) as temporary:
        write_table(temporary, table)


def read_predictions(folder: Path) -> pd.DataFrame:
    """Read `predictions.parquet`.

    Raises:
        DataError: if it is missing.
    """
    path = Path(folder) / PREDICTIONS_FILE
    if not path.is_file():
        raise DataError(f"{path}: no such file; evaluate writes it")
    return read_table(path)


def probabilities_of(table: pd.DataFrame, column: str = "probabilities") -> npt.NDArray[np.float64]:
    """Return a column of probabilities as one array (n, C)."""
    return np.stack(table[column].to_list()).astype(np.float64)
