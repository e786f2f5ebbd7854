"""A manifest: `manifest.csv` at the root of a data folder, with one row per image.

Its columns are `path` and `label`, and optionally `split`, `group` and `domain`; other columns are kept.
"""

from pathlib import Path, PurePosixPath

import pandas as pd

from graft.core.errors import DataError
from graft.data.dataset import Split
from graft.data.records import SPLIT_NAMES, Listing, Problem, Record, printable
from graft.data.safe_paths import check_path

MANIFEST = "manifest.csv"
MANIFEST_COLUMNS = ("path", "label", "split", "group", "domain")


def list_manifest(root: Path) -> Listing:
    """Return the images that the manifest in `root` lists.

    Raises:
        DataError: if it is invalid; the message names the line.
    """
    frame = _read_manifest(root / MANIFEST)
    extra = [name for name in frame.columns if name not in MANIFEST_COLUMNS]
    records: list[Record] = []
    problems: list[Problem] = []
    for number, values in enumerate(zip(*(frame[name] for name in frame.columns), strict=True), start=2):
        row = dict(zip(frame.columns, values, strict=True))
        path, label = row["path"], row["label"]
        if not path or not label.strip():
            field_name = "label" if path else "path"
            raise DataError(f"{MANIFEST} line {number}: {field_name} is empty; expected one for every image")
        file = _checked_name(root, path, number)
        if isinstance(file, Problem):
            problems.append(Problem(file.kind, file.path, file.message, label))
            continue
        split = _manifest_split(row.get("split", ""), number)
        group, domain = row.get("group", ""), row.get("domain", "")
        records.append(Record(path, file, label, split, group, domain, {name: row[name] for name in extra}))
    unsplit = [record.path for record in records if record.split is None]
    if unsplit and len(unsplit) < len(records):
        raise DataError(
            f"{MANIFEST}: {len(unsplit)} rows have no split while others do (first: {printable(unsplit[0])})"
        )
    return Listing("manifest", tuple(sorted(records, key=lambda record: record.path)), tuple(problems))


def _read_manifest(file: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{MANIFEST}: not a readable CSV table ({' '.join(str(error).split())})") from error
    for name in ("path", "label"):
        if name not in frame.columns:
            found = ", ".join(map(str, frame.columns))
            raise DataError(f"{MANIFEST}: column {name!r} is missing; found {found}; expected path and label at least")
    if frame.empty:
        raise DataError(f"{MANIFEST}: no rows; expected one for every image")
    return frame


def _checked_name(root: Path, name: str, line: int) -> str | Problem:
    """Check a manifest's path before it is used on the file system."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\0" in name:
        return Problem("path_escape", name, f"{MANIFEST} line {line} leads out of the data folder")
    file = check_path(root, root / pure)
    if isinstance(file, Problem) and file.kind == "missing_file":
        return Problem("missing_file", name, f"{MANIFEST} line {line} names a file that is not there")
    return file


def _manifest_split(value: str, line: int) -> Split | None:
    name = value.strip().lower()
    if name and name not in SPLIT_NAMES:
        raise DataError(f"{MANIFEST} line {line}: split {value!r}; expected train, val or test")
    return SPLIT_NAMES.get(name)
