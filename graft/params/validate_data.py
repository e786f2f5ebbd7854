"""Parameters of the step `validate_data`."""

from typing import Literal

from pydantic import Field

from graft.params.quantities import Fraction, MaskValue, PixelValue, Seed
from graft.params.section import Section


class Thresholds(Section):
    """What counts as unusual; sizes in pixels, luminance from 0 (black) to 1 (white)."""

    min_side: int = Field(16, ge=1, le=1_000_000, description="tiny: a shorter side below this")
    max_side: int = Field(6000, ge=1, le=1_000_000, description="huge: a longer side above this")
    max_aspect: float = Field(4.0, ge=1.0, le=1e6, description="extreme_aspect: longer over shorter side above this")
    size_ratio: float = Field(
        8.0, gt=1.0, le=1e6, description="size_outlier: more than this factor larger or smaller than the median size"
    )
    min_contrast: float = Field(0.02, ge=0.0, le=1.0, description="uniform: standard deviation of luminance below this")
    min_entropy: float = Field(
        0.3, ge=0.0, le=8.0, description="low_information: fewer bits in the luminance histogram"
    )
    min_sharpness: float = Field(0.035, ge=0.0, le=100.0, description="blurred: Laplacian over contrast below this")
    min_brightest: float = Field(0.25, ge=0.0, le=1.0, description="dark: 99 % of the pixels are darker than this")
    max_darkest: float = Field(0.9, ge=0.0, le=1.0, description="bright: 99 % of the pixels are brighter than this")
    similarity: float = Field(
        0.985, gt=0.0, le=1.0, description="near_duplicate: least correlation of 32 x 32 thumbnails"
    )
    photo_similarity: float = Field(
        0.95, gt=0.0, le=1.0, description="near_duplicate: the same, of photos without a flat background"
    )
    imbalance: float = Field(
        20.0, gt=1.0, le=1e9, description="imbalance: the largest class is this many times as large"
    )
    shift: float = Field(
        0.6, ge=0.5, le=1.0, description="shift: AUROC of a classifier between train and test, lower bound above this"
    )
    shortcut: float = Field(
        0.25,
        gt=0.0,
        lt=1.0,
        description="shortcut: accuracy between chance (0) and perfect (1), lower bound above this",
    )


class ValidateDataParams(Section):
    """How a folder is read, what images must satisfy before training, and how they are split."""

    task: Literal["classify", "segment", "instances"] = Field(
        "classify", description="what is learnt: a class per image, a class per pixel, or objects with a mask each"
    )
    mask_values: dict[MaskValue, str] = Field(
        default={}, description="segment: name of each value in the masks, the background first; empty: two values"
    )
    mask_ignore: MaskValue | None = Field(
        None, description="segment: value of pixels that do not count; null: 255 if it has no name"
    )
    layout: Literal["auto", "classes", "splits", "domains"] = Field(
        "auto",
        description="what the folders are: classes, splits of classes, domains of classes (or the other way round)",
    )
    label_level: int | None = Field(
        None, ge=1, le=64, description="which folder of a path names the class, from 1 at the top; null: found out"
    )
    labels: tuple[str, ...] | dict[str, Literal["single_label", "tags"]] = Field(
        ("label",), description="columns of a manifest to learn, each a task; {colour: single_label, defects: tags}"
    )
    on_bad_image: Literal["fail", "drop"] = Field("fail", description="fail the pipeline or leave bad images out")
    on_leakage: Literal["drop", "fail", "warn"] = Field(
        "drop",
        description="the same picture in two given splits: drop the copies outside the test set, fail, or continue",
    )
    val_fraction: Fraction = Field(
        0.2, description="fraction of the training images held out for validation, if no such split is given"
    )
    test_fraction: Fraction = Field(
        0.2, description="fraction of all images held out for the test, if no such split is given"
    )
    min_per_class: int = Field(2, ge=1, le=1_000_000, description="fewest images a class may have in training")
    channels: int = Field(
        3,
        ge=1,
        le=256,
        description="3: RGB, 1: grey, converted from any image; another number: images with that many bands, as stored",
    )
    max_pixels: int = Field(
        100_000_000, ge=1, le=2**31 - 1, description="more pixels than this is a decompression bomb"
    )
    value_range: tuple[PixelValue, PixelValue] | None = Field(
        None,
        description="values that are black and white in images of more than 8 bits; null: found for the whole set",
    )
    thresholds: Thresholds = Thresholds()
    severity: dict[str, Literal["fail", "warn", "info", "ignore"]] = Field(
        default={}, description="severities that replace the documented ones, by kind of finding"
    )
    expectations: str = Field("expectations", description="folder of your own expectations (*.json, *.py)")
    reference: str | None = Field(
        None, description="page folder of an earlier run: report how the data has changed since then"
    )
    seed: Seed = Field(0, description="changes which images go into which split")
