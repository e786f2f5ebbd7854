"""Images keep their splits when the data grows, and splits have about their shares."""

import numpy as np

from graft.data.splits import assign_splits
from tests.truth.promise import Promise, around

_IMAGES = 2000


def _drawn(images: int) -> list[str]:
    labels, groups = [f"{n % 5}" for n in range(images)], [f"image {n}" for n in range(images)]
    return list(assign_splits(labels, groups, [None] * images, val_fraction=0.2, test_fraction=0.2, seed=0).splits)


def _moved() -> float:
    before, after = _drawn(1500), _drawn(_IMAGES)
    return float(np.mean([one != other for one, other in zip(before, after[:1500], strict=True)]))


PROMISES = (
    Promise("an image changes its split when the data grows: never", "1,500 images become 2,000", 0.0, 0.0, _moved),
    Promise(
        "images held out for the test: validate_data.test_fraction",
        f"{_IMAGES:,} images, 20 %",
        *around(0.2, _IMAGES),
        lambda: _drawn(_IMAGES).count("test") / _IMAGES,
    ),
)
