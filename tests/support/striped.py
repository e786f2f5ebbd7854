"""Ants and bees that differ only in the spacing of their stripes, and a head on a real backbone that separates them."""

import io
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from graft.backbones.feature_store import FeatureStore
from graft.backbones.incremental import extract_into
from graft.data.dataset import TABLE_COLUMNS, ImageDataset, write_dataset
from graft.heads.depth_selection import choose_head
from graft.heads.head_inputs import prepare_head_inputs
from graft.models.bundle import ModelBundle
from graft.models.fit_head import fit_head
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.train_head import TrainHeadParams

GROUP = "blocks.6"
"""The last group but one of the backbone."""


def _png(label: int, number: int) -> bytes:
    generator = np.random.default_rng([label, number])
    pixels = generator.normal(110, 40, (40, 40, 3))
    pixels[:, :: 4 + 2 * label] += 60  # stripes of the class's own spacing
    content = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(content, "PNG")
    return content.getvalue()


def striped_dataset(folder: Path) -> ImageDataset:
    """Return 96 images: 48 for training, 24 for validation, 24 for test."""
    images = [_png(number % 2, number) for number in range(96)]
    table = pd.DataFrame(dict.fromkeys(TABLE_COLUMNS, ""), index=range(96))
    table["id"] = [sha256(image).hexdigest() for image in images]
    table["path"] = [f"{number}.png" for number in range(96)]
    table["group"] = table["path"]
    table["label"] = [("ant", "bee")[number % 2] for number in range(96)]
    table["split"] = [("train", "train", "val", "test")[number // 2 % 4] for number in range(96)]
    table["width"] = table["height"] = 40
    return write_dataset(folder, table, images, ("ant", "bee"))


def linear_head(dataset: ImageDataset, features: Path, weights: str = "default") -> ModelBundle:
    """Return a linear head on the last group; the features of all groups are written to `features`."""
    extract_into(features, dataset, ExtractFeaturesParams(weights=weights, image_size=64))
    inputs = prepare_head_inputs(FeatureStore.read(features), TrainHeadParams(folds=3))
    return fit_head(inputs, choose_head(inputs, "last", "linear"))


def contents(dataset: ImageDataset, split: str) -> list[bytes]:
    """Return the contents of the image files of one split."""
    reader = dataset.reader()
    return [reader[int(row)] for row in dataset.indices(split)]
