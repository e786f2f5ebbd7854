"""The demo of several tasks: the demo's digits with a manifest that asks which digit each is, and whether it is even.

    python -m graft.demo.task_digits [--out data/task_digits]

writes `images/` and `manifest.csv` with the columns path, digit, parity and split.
"""

import csv
import io
from pathlib import Path
from typing import Annotated

import typer

from graft.core.atomic import replacing, write_text
from graft.core.errors import DataError, GraftError
from graft.demo.demo_digits import write_demo

FOLDER = Path("data/task_digits")
LABELS = ("digit", "parity")
"""The columns to learn."""


def write_task_digits(folder: Path = FOLDER) -> bool:
    """Write the digits and their manifest into `folder`; return False if it has content already.

    Raises:
        DataError: if `folder` is a file, see also `write_demo`.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file; choose a folder for the demo digits")
    if folder.is_dir() and any(folder.iterdir()):
        return False
    with replacing(folder, checksums=False) as temporary:
        temporary.mkdir()
        write_demo(temporary / "images")
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["path", *LABELS, "split"])
        for file in sorted((temporary / "images").rglob("*.png")):
            split, digit = file.parts[-3:-1]
            parity = "odd" if int(digit) % 2 else "even"
            table.writerow([file.relative_to(temporary).as_posix(), digit, parity, split])
        write_text(temporary / "manifest.csv", text.getvalue())
    return True


def main(out: Annotated[Path, typer.Option(help="folder to write to")] = FOLDER) -> None:
    """Write the demo digits with two columns of labels; do nothing if they exist already."""
    try:
        made = write_task_digits(out)
    except GraftError as error:
        raise SystemExit(str(error)) from error
    print(f"{out}: 1,500 digits, a manifest with {' and '.join(LABELS)}" if made else f"{out}: is there already")


if __name__ == "__main__":
    typer.run(main)
