"""The source-by-target table: how right each model of a run is on the test images and on each target domain.

Only images with a label can tell. Where a domain has none, the agreement of an adapted model's two views stands in for
its accuracy there, and is marked as an estimate.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from graft.core.atomic import write_json
from graft.data.dataset import ImageDataset
from graft.data.target_rows import TargetDomain, read_targets
from graft.models.bundle import ModelBundle
from graft.models.domains import adapted_models
from graft.stats.confidence_intervals import Interval, wilson

DOMAINS_FILE = "domains.json"
TRAINED, TEST = "as trained", "test images"


class Cell(BaseModel):
    """How right one model is on one set of images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    low: float
    high: float
    images: int
    estimated: bool = False
    """By the agreement of two views, since no image there has a label."""


Table = Mapping[str, Mapping[str, Cell]]
"""Cells by model, then by set of images."""


def source_by_target(images: ImageDataset, model: Path, bundle: ModelBundle, right: npt.NDArray[np.bool_]) -> Table:
    """Return the table; empty for a dataset without target domains.

    Args:
        images: the dataset.
        model: folder of the model, with the adapted ones below it.
        bundle: the model.
        right: which test images (n,) it is right about.
    """
    domains = read_targets(images.path)
    if not domains:
        return {}
    table = {TRAINED: {TEST: _cell(right)} | _on_domains(bundle, domains)}
    for folder in adapted_models(model).values():
        adapted = ModelBundle.load(folder)
        record = adapted.spec.adaptation
        assert record is not None
        rows, reader = images.labelled("test"), images.reader()
        logits = adapted.logits((reader[int(row)] for row in rows), f"test, adapted to {record.domain}", len(rows))
        row = {TEST: _cell(images.task.correct(adapted.probabilities(logits), images.targets()[rows]))}
        if record.agreement is not None:
            guess = wilson(record.agreement * record.images, record.images)
            row[record.domain] = _filled(guess, record.images, estimated=True)
        table[f"adapted to {record.domain}"] = row | _on_domains(adapted, domains)
    return table


def write_table(folder: Path, table: Table) -> None:
    """Write `domains.json` into the folder of an evaluation."""
    content = {name: {where: cell.model_dump() for where, cell in row.items()} for name, row in table.items()}
    write_json(folder / DOMAINS_FILE, content)


def _on_domains(bundle: ModelBundle, domains: list[TargetDomain]) -> dict[str, Cell]:
    found = {}
    for domain in domains:
        targets = domain.images.targets()
        known = [row for row in domain.rows if targets[row] >= 0]
        if known:
            logits = bundle.logits((domain.images.image(row) for row in known), domain.name, len(known))
            found[domain.name] = _cell(bundle.task.correct(bundle.probabilities(logits), targets[known]))
    return found


def _cell(right: npt.NDArray[np.bool_]) -> Cell:
    return _filled(wilson(int(right.sum()), len(right)), len(right))


def _filled(found: Interval, images: int, *, estimated: bool = False) -> Cell:
    return Cell(value=found.value, low=found.low, high=found.high, images=images, estimated=estimated)
