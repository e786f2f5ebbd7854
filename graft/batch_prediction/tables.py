"""The tables of a batch of predictions: their columns, and the parts put together as Parquet and CSV."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet as pq

from graft.core.atomic import replacing
from graft.core.csv_table import as_text
from graft.models.bundle import ModelBundle
from graft.models.prediction_table import task_prefix
from graft.stats.drift import PredictionSample

PARQUET, CSV = "predictions.parquet", "predictions.csv"


@dataclass(frozen=True)
class BatchResult:
    """The result of a batch."""

    images: int
    errors: int
    """Images that could not be read."""
    reused: int
    """Images whose predictions are from an earlier run."""
    seen: PredictionSample
    """Predictions for the images that could be read."""
    abstained: float | None
    """Share of these on which the model abstains; None if it cannot abstain."""
    further_seen: tuple[PredictionSample, ...] = ()
    """Predictions of the tasks after the first; the numbers above are about the first."""
    parts: tuple[Path, ...] = ()
    """Files of the predictions, part by part, with their features beside them (see `kept_features`)."""


@dataclass(frozen=True)
class Strange:
    """An image that is unlike the training images, with the model's answer."""

    path: str
    """Below the folder of images."""
    label: str
    confidence: float
    ood: float
    """Out-of-distribution score; above 1: out of distribution."""


def strangest(result: BatchResult, bundle: ModelBundle, count: int) -> list[Strange]:
    """Return the images with the highest out-of-distribution scores above 1, highest first."""
    if bundle.abstention is None:
        return []
    before = task_prefix(bundle, bundle.task)[0]
    columns = ["path", f"{before}label", f"{before}confidence", f"{before}ood"]
    found: list[Strange] = []
    for part in result.parts:
        table = pq.read_table(part, columns=columns, page_checksum_verification=True)
        far = table.filter(pa.compute.greater(table[columns[-1]], 1.0))
        found += [Strange(*row) for row in zip(*(far[name].to_pylist() for name in columns), strict=True)]
        found = sorted(found, key=lambda one: (-one.ood, one.path))[:count]
    return found


def schema(bundle: ModelBundle) -> pa.Schema:
    """Return the columns of the predictions, see `prediction_table`; in the CSV, a set's labels are joined by `|`."""
    fields = [("path", pa.string())]
    for one in bundle.by_task:
        before, before_label = task_prefix(bundle, one.task)
        fields += [(f"{before}label", pa.string()), (f"{before}confidence", pa.float64())]
        if one.task.lists_answers:
            fields.append((f"{before}tags", pa.list_(pa.string())))
        if one.abstention:
            kinds = {"set": pa.list_(pa.string()), "abstain": pa.bool_(), "ood": pa.float64()}
            fields += [(before + name, kind) for name, kind in kinds.items()]
        fields += [(before_label + label, pa.float64()) for label in one.spec.labels]
    return pa.schema([*fields, ("error", pa.string())])


def merge(parts: Sequence[Path], out: Path, bundle: ModelBundle, reused: int) -> BatchResult:
    """Write the parts as one table, in both forms, into `out`.

    Args:
        parts: files of the predictions, in order.
        out: exists.
        bundle: the model that made them.
        reused: images whose predictions are from an earlier run.
    """
    gathered = [_Gathered(one, task_prefix(bundle, one.task)[0]) for one in bundle.by_task]
    errors = 0
    columns = schema(bundle)
    plain = pa.schema(
        [pa.field(field.name, pa.string()) if pa.types.is_list(field.type) else field for field in columns]
    )
    with (
        replacing(out / PARQUET) as parquet_file,
        replacing(out / CSV) as csv_file,
        pq.ParquetWriter(parquet_file, columns) as parquet,
        pa.csv.CSVWriter(csv_file, plain) as csv,
    ):
        for part in parts:
            table = pq.read_table(part, schema=columns, page_checksum_verification=True)
            parquet.write_table(table)
            csv.write_table(_cells(table, plain))
            known = table.filter(pa.compute.is_null(table["error"]))
            errors += len(table) - len(known)
            for one in gathered:
                one.add(known)
    first = gathered[0]
    rest = float(np.concatenate(first.abstained).mean()) if first.abstained and first.answers else None
    seen, *further = (one.sample() for one in gathered)
    return BatchResult(len(first.answers) + errors, errors, reused, seen, rest, tuple(further), tuple(parts))


class _Gathered:
    """The predictions of one task, part by part."""

    def __init__(self, bundle: ModelBundle, prefix: str) -> None:
        names = bundle.task.categories
        self._index = {name: number for number, name in enumerate(names)}
        self._other, self._prefix, self._abstains = len(names) - 1, prefix, bundle.abstention is not None
        self.answers: list[int] = []
        self.confidences: list[npt.NDArray[Any]] = []
        self.ood_scores: list[npt.NDArray[Any]] = []
        self.abstained: list[npt.NDArray[Any]] = []

    def add(self, known: pa.Table) -> None:
        """Add the images of a part that could be read."""
        labels = known[f"{self._prefix}label"].to_pylist()
        self.answers += [self._index.get(label, self._other) for label in labels]
        self.confidences.append(known[f"{self._prefix}confidence"].to_numpy())
        if self._abstains:
            self.ood_scores.append(known[f"{self._prefix}ood"].to_numpy())
            self.abstained.append(known[f"{self._prefix}abstain"].to_numpy())

    def sample(self) -> PredictionSample:
        """Return all of them."""
        ood_scores = np.concatenate(self.ood_scores) if self._abstains else None
        return PredictionSample(np.array(self.answers, dtype=np.int64), np.concatenate(self.confidences), ood_scores)


def _cells(table: pa.Table, plain: pa.Schema) -> pa.Table:
    """Return a table for a spreadsheet: lists are joined, and no text is a formula (see `csv_table.as_text`)."""
    for at, field in enumerate(table.schema):
        if pa.types.is_list(field.type):
            sets = table[field.name].to_pylist()
            texts = [None if labels is None else "|".join(map(_escaped, labels)) for labels in sets]
        elif pa.types.is_string(field.type):
            texts = table[field.name].to_pylist()
        else:
            continue
        cells = [None if text is None else as_text(text) for text in texts]
        table = table.set_column(at, field.name, pa.array(cells, pa.string()))
    return table.cast(plain)


def _escaped(label: str) -> str:
    r"""Return a label in which the sign between labels is written `\|`."""
    return label.replace("\\", "\\\\").replace("|", "\\|")
