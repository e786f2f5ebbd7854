"""Digits from another source than the demo's: scanned forms of other writers, 8 x 8 pixels, without labels.

scikit-learn contains 1,797 of them (Alpaydin and Kaynak, UCI 1998). Their strokes fill the 8 x 8 pixels; a border of
one pixel keeps what reads the centre of a picture from cutting them. `images/` holds them under names that tell
nothing; `check.csv` names the digit of every tenth.

    python -m graft.demo.scanned_digits [--out data/scanned_digits]
"""

import csv
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from graft.core.atomic import replacing
from graft.core.errors import DataError, GraftError

FOLDER = Path("data/scanned_digits")
IMAGES, CHECK = "images", "check.csv"
LABELLED_EVERY = 10
_LARGEST, _BORDER = 16, 1


def write_scanned_digits(folder: Path = FOLDER) -> bool:
    """Write `images/<number>.png`, 8-bit grey, 10 x 10, and `check.csv`; return False if there is content already.

    Raises:
        DataError: if `folder` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file; choose a folder for the scanned digits")
    if folder.is_dir() and any(folder.iterdir()):
        return False
    from sklearn.datasets import load_digits

    scans = load_digits()
    with replacing(folder, checksums=False) as temporary:
        (temporary / IMAGES).mkdir(parents=True)
        with (temporary / CHECK).open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["path", "label"])
            for number, (image, label) in enumerate(zip(scans.images, scans.target, strict=True)):
                path = f"{IMAGES}/{number:04d}.png"
                pixels = np.pad((image * 255 / _LARGEST).round().astype(np.uint8), _BORDER)
                Image.fromarray(pixels).save(temporary / path)
                if number % LABELLED_EVERY == 0:
                    rows.writerow([path, label])
    return True


def main(out: Annotated[Path, typer.Option(help="folder to write")] = FOLDER) -> None:
    """Write the scanned digits to a folder."""
    try:
        written = write_scanned_digits(out)
    except GraftError as error:
        raise SystemExit(str(error)) from error
    print(f"{out}: {'1,797 scanned digits' if written else 'has content already, left as it is'}")


if __name__ == "__main__":
    typer.run(main)
