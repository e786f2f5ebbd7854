"""A small model, and the same kind of pictures as another camera takes them: darker, with less contrast and a tint."""

from pathlib import Path

import numpy as np
from PIL import Image

from graft.data.dataset import ImageDataset
from graft.models.bundle import ModelBundle
from graft.models.fit_head import with_feature_statistics
from graft.models.fit_renormed_head import with_renormed_head
from tests.support.pictures import picture
from tests.support.tiny import CLASSES, bundle_of

GAIN, OFFSET = (0.35, 0.35, 0.25), (130.0, 60.0, 20.0)
"""Of the other camera's red, green and blue."""
FIRST = 10_000
"""Numbers of the pictures: none is in the dataset."""


def adaptable(dataset: ImageDataset) -> ModelBundle:
    """Return the nearest-mean classifier of a dataset with the statistics that adaptation needs."""
    bundle = bundle_of(dataset)
    rows, reader = dataset.indices("train"), dataset.reader()
    _, features = bundle.logits_and_features(reader[int(row)] for row in rows)
    groups = dataset.table["group"].to_numpy()[rows]
    return with_renormed_head(with_feature_statistics(bundle, features, dataset.targets()[rows], groups), dataset)


def another_camera(image: Image.Image) -> Image.Image:
    """Return the picture as another camera takes it."""
    pixels = np.asarray(image, dtype=np.float64)
    seen = np.array(GAIN) * pixels + np.array(OFFSET)
    return Image.fromarray(seen.clip(0, 255).astype(np.uint8))


def write_target(folder: Path, per_class: int = 24, *, shifted: bool = True) -> dict[str, str]:
    """Write pictures of every class without naming it; return the class of each file."""
    folder.mkdir(parents=True)
    labels = {}
    for number in range(per_class * len(CLASSES)):
        label = number % len(CLASSES)
        image = picture(label, FIRST + number)
        name = f"{(number * 7919) % 10_007:05d}.png"
        (another_camera(image) if shifted else image).save(folder / name)
        labels[name] = CLASSES[label]
    return labels
