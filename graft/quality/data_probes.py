"""The probes of an inventory: shift between its splits and from an earlier version, and shortcuts to the label."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from graft.core.errors import DataError
from graft.core.parquet import read_table
from graft.params.validate_data import ValidateDataParams
from graft.quality.dataset_shift import STATISTICS, Shift, category_shift, picture_shift
from graft.quality.inventory import Inventory
from graft.quality.shortcut_features import Shortcut, find_shortcut

IMAGES_FILE = "images.parquet"
"""The inventory's table in the page folder; `validate_data.reference` is compared with it."""


@dataclass(frozen=True)
class Probes:
    """The results of the probes."""

    shifts: tuple[Shift, ...]
    shortcut: Shortcut | None

    def table(self) -> pd.DataFrame:
        """Return one row per probe: `shift` is a lower bound of AUROC, `shortcut` one of accuracy above chance."""
        rows: list[dict[str, object]] = [
            {"name": f"{shift.about}: {shift.between[0]} against {shift.between[1]}", "shift": shift.low}
            for shift in self.shifts
        ]
        if self.shortcut is not None:
            rows.append({"name": "label from file properties", "shortcut": self.shortcut.above_chance})
        return pd.DataFrame(rows, columns=pd.Index(["name", "shift", "shortcut"])).astype(
            {"shift": float, "shortcut": float}
        )


def run_probes(inventory: Inventory, params: ValidateDataParams) -> Probes:
    """Run all probes that the data allows.

    Raises:
        DataError: if the reference is not the page folder of an earlier run.
    """
    kept = inventory.kept
    return Probes(tuple(_shifts(inventory, params)), find_shortcut(kept[kept["label"] != ""], params.seed))


def _shifts(inventory: Inventory, params: ValidateDataParams) -> Iterator[Shift]:
    kept = inventory.kept
    columns = ["label", "domain", *inventory.extra]
    # Splits that Graft drew do not differ, by construction.
    for split in ("val", "test"):
        chosen = kept["split"] == split
        if (kept.loc[chosen, "given_split"] == split).any():
            train = kept[kept["split"] == "train"]
            yield from _compared(train, kept[chosen], kept[chosen], ("train", split), columns, params.seed)
    if params.reference is not None:
        earlier = _earlier(Path(params.reference))
        # Images in both versions are left out: a forest would confuse the two copies, which would hide any shift.
        new = kept[~kept["id"].isin(earlier["id"])]
        yield from _compared(earlier, kept, new, ("before", "now"), columns, params.seed)


def _compared(
    first: pd.DataFrame,
    second: pd.DataFrame,
    pictures: pd.DataFrame,
    between: tuple[str, str],
    columns: list[str],
    seed: int,
) -> Iterator[Shift]:
    found = [picture_shift(first, pictures, between, seed)]
    found += [category_shift(name, first, second, between, seed) for name in columns if name in first.columns]
    yield from (shift for shift in found if shift is not None)


def _earlier(folder: Path) -> pd.DataFrame:
    file = folder / IMAGES_FILE if folder.is_dir() else folder
    try:
        images = read_table(file)
    except (OSError, ValueError) as error:
        raise DataError(
            f"validate_data.reference={folder}: no {IMAGES_FILE} in it; name the page folder of an earlier run"
        ) from error
    missing = sorted({*STATISTICS, "id", "label", "group", "dropped"} - {*images.columns})
    if missing:
        raise DataError(
            f"{file}: no column {', '.join(missing)}; written by another version of Graft, validate that data again"
        )
    return images[images["dropped"] == ""]
