"""The parameters: one frozen section per step, read from `params.yaml`, overridable, validated.

A section has the name of its step, its DVC stage and its KFP task. For an unknown name or a value of the wrong type,
one line names the field, the value and what was expected.
"""

import copy
import difflib
import posixpath
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from graft.core.credentials import holds_credentials, mask_credentials
from graft.core.errors import ParamsError
from graft.core.installed import default_file
from graft.runs.yaml_values import Written, inside, load_yaml, members, settle, written

M = TypeVar("M", bound=BaseModel)
_NO_ORIGINS: Mapping[str, str] = MappingProxyType({})
RUN_SETTINGS = ("preset", "budget")
"""Names beside the sections: they are said for a whole run, see `graft.runs.run_settings`."""
MOST_IMAGES_AT_ONCE = 4096
"""Images in one forward pass."""
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Penalty = Annotated[float, Field(gt=0.0, le=1e9)]
Rate = Annotated[float, Field(gt=0.0, le=100.0)]
Threads = Annotated[int, Field(ge=1, le=1024)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
"""What both NumPy and torch take."""
Mean = Annotated[float, Field(ge=-1e3, le=1e3)]
Std = Annotated[float, Field(gt=0.0, le=1e3)]
BatchSize = Annotated[int, Field(ge=1, le=MOST_IMAGES_AT_ONCE)]
Side = Annotated[int, Field(ge=1, le=4096)]
"""Pixels."""
MaskValue = Annotated[int, Field(ge=0, le=65535)]
PixelValue = Annotated[float, Field(ge=-1e38, le=1e38)]
"""What a 32-bit float holds."""
_COST = r"\d{1,9}(\.\d{0,9})?"
THRESHOLD_GOAL = rf"^(max_f1|(precision|recall)>=(0?\.\d+|1(\.0*)?)|cost={_COST}:{_COST})$"
"""The forms of a goal, see `stats.threshold_selection`."""


class Section(BaseModel):
    """Base of every section: immutable; unknown names are an error, and so are NaN, infinity and passwords in URLs.

    Every number has a lowest and a highest value; a test looks for fields without.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _without_credentials(cls, value: Any, field: ValidationInfo) -> Any:
        if _fields(cls.model_fields[field.field_name or ""].annotation):
            return value  # a section, which looks at its own fields
        if any(holds_credentials(text) for text in _texts(value)):
            # Parameters are recorded with every run in plain text.
            raise PydanticCustomError(
                "credentials",
                "holds credentials, which every run would record; use ssh, .netrc, git's credential helper or the "
                "environment",
            )
        return value


class GetDataParams(Section):
    """Where the raw images come from."""

    source: str = Field("data/digits", description="folder, CSV manifest, or (with repo) a path tracked by DVC in it")
    repo: str | None = Field(
        None, description="git repository (URL or path) whose DVC data to fetch; null: local files"
    )
    rev: str | None = Field(None, description="git revision (tag, branch, commit) of repo; null: its HEAD")


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


class ExtractFeaturesParams(Section):
    """The backbone, its weights and its input size."""

    backbone: str = Field(
        "tf_efficientnet_lite0", description="a torchvision or timm architecture by name; auto: the best of candidates"
    )
    candidates: tuple[str, ...] = Field(
        ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2"),
        description="what backbone=auto chooses from, by cross-validation: names, or name=weights",
    )
    prefer: Literal["accuracy", "balance", "cost"] = Field(
        "balance",
        description="what backbone=auto takes where cross-validation cannot tell: accuracy: the largest | cost: the "
        "cheapest | balance: the cheapest within one standard error",
    )
    weights: str = Field(
        "default",
        description="default | none | a torchvision enum name | a .safetensors / .pth file | a model of your own: its "
        "folder, or models:/name@alias",
    )
    image_size: Side | Literal["auto"] = Field(
        "auto", description="pixels; auto: the weights' own size, less for tiny images"
    )
    stem: Literal["inflate", "repeat", "average"] = Field(
        "inflate",
        description="if images do not have 3 channels: filters for each (inflate), or a fixed mixture of them",
    )
    mean: tuple[Mean, ...] | None = Field(None, description="input mean per channel; null: what the weights expect")
    std: tuple[Std, ...] | None = Field(None, description="input std per channel; null: what the weights expect")
    batch_size: BatchSize | Literal["auto"] = Field("auto", description="images per forward pass")
    workers: Threads | Literal["auto"] = Field("auto", description="threads; auto: one per core")
    backend: Literal["auto", "torch", "openvino", "onnxruntime"] = Field(
        "auto", description="what runs the backbone; auto: the fastest that is installed, checked against torch"
    )
    seed: Seed = Field(0, description="random initialisation when weights is none")


class TrainHeadParams(Section):
    """The new output layer on frozen features."""

    reuse_depth: str = Field(
        "auto", description="auto | last | a group's name: the last group of the backbone to reuse"
    )
    head: Literal["auto", "linear", "multi_tap", "mlp", "cosine"] = Field(
        "auto", description="linear: reads one group; multi_tap: several; mlp, cosine; auto: by cross-validation"
    )
    init: Literal["fit", "source_labels"] = Field(
        "fit", description="source_labels: regularise the head towards the source classifier's rows of the same labels"
    )
    source_labels: dict[str, str | tuple[str, ...]] = Field(
        default={}, description="source labels by class, where the names differ"
    )
    l2: Penalty | Literal["auto"] = Field("auto", description="penalty on the weights; auto: cross-validated")
    class_weight: Literal["auto", "balanced", "none"] = Field(
        "auto", description="what counts while fitting; auto: balanced if imbalanced > 1.5x"
    )
    tag_goal: str = Field(
        "max_f1",
        pattern=THRESHOLD_GOAL,
        description="tags: how each threshold is chosen: max_f1 | precision>=0.9 | recall>=0.9 | cost=alarm:miss",
    )
    folds: int = Field(5, ge=2, le=1000, description="folds of the cross-validation")
    memory: bool = Field(True, description="keep statistics of the learnt images, from which make update learns on")
    exam: bool = Field(
        True, description="keep features of validation and test images, on which later updates are examined"
    )
    seed: Seed = Field(0, description="changes which images go into which fold")


class FeatureThresholds(Section):
    """What counts as unusual once features exist."""

    similarity: float = Field(
        0.95,
        gt=0.0,
        le=1.0,
        description="near_duplicate: least correlation of a picture with the part of it that another shows",
    )
    shift: float = Field(
        0.6,
        ge=0.5,
        le=1.0,
        description="shift: AUROC of a classifier between train and a held-out split, lower bound above this",
    )


class ReviewFeaturesParams(Section):
    """What features flag for a person to review."""

    thresholds: FeatureThresholds = FeatureThresholds()
    reference: str | None = Field(
        None, description="features folder of an earlier data version: report how new images differ"
    )
    seed: Seed = Field(0, description="of the forests that measure shift")


class AugmentationRanges(Section):
    """The ranges that augmented views are drawn from, uniformly, if `augment` is custom."""

    degrees: Annotated[float, Field(ge=0.0, le=180.0)] = Field(10.0, description="rotation to either side")
    shift: Annotated[float, Field(ge=0.0, le=0.5)] = Field(
        0.08, description="to either side, as a fraction of the image's side"
    )
    zoom: Annotated[float, Field(ge=0.0, le=1.0)] = Field(0.15, description="logarithm of the factor, in or out")
    light: Annotated[float, Field(ge=0.0, le=0.9)] = Field(
        0.2, description="brightness and contrast: from 1 - this to 1 + this"
    )


class FineTuneParams(Section):
    """Which part of the backbone is trained further, and how."""

    enabled: bool = Field(True, description="false: frozen features and the new head are the result")
    strategy: Literal["staged", "upper", "all", "surgical"] = Field(
        "staged",
        description="staged unfreezing | upper: from depth up | all | surgical: the one group that needs it most",
    )
    depth: str = Field(
        "auto", description="the lowest group to train (upper), or to reach (staged); auto: by hyper-rule"
    )
    epochs: Annotated[int, Field(ge=1, le=10_000)] | Literal["auto"] = Field("auto", description="epochs per stage")
    lr: Rate | Literal["auto"] = Field("auto", description="peak learning rate of the top group")
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.7, description="factor of the learning rate from a group to the next lower one"
    )
    weight_decay: Annotated[float, Field(ge=0.0, le=100.0)] = 0.01
    label_smoothing: Fraction = 0.0
    augment: Literal["auto", "none", "light", "strong", "custom"] = "auto"
    custom: AugmentationRanges = AugmentationRanges()
    flip: bool = Field(False, description="whether a mirrored image keeps its label (digits and text do not)")
    batch_size: int = Field(32, ge=2, le=MOST_IMAGES_AT_ONCE, description="images per step")
    budget: str = Field(
        "auto",
        pattern=r"^(auto|none|\d{1,6}(\.\d{1,6})?[smh])$",
        description="most time for stages: 90s | 5m | 1h | none | auto: as much work as 60 passes over the images",
    )
    folds: Annotated[int, Field(ge=0, le=1000)] | Literal["auto"] = Field(
        "auto", description="folds of the cross-validation that judges a stage; 0: use the validation images"
    )
    l2_sp: Annotated[float, Field(ge=0.0, le=1e6)] = Field(
        0.0, description="strength of the pull of the backbone's weights to their start (L2-SP)"
    )
    wise_ft: bool = Field(
        False, description="choose weights between a stage's start and end by held-out loss (WiSE-FT)"
    )
    refit: bool | Literal["auto"] = Field(
        "auto", description="train the chosen model again on training and validation images; auto: below 5,000"
    )
    seed: Seed = 0

    @field_validator("folds")
    @classmethod
    def _at_least_two(cls, folds: int | str) -> int | str:
        if folds == 1:
            raise ValueError("one fold leaves nothing to train on; use 2 or more, or 0")
        return folds


class AdaptParams(Section):
    """How a model is adapted to another domain, and when it is left alone."""

    domain: str | None = Field(
        None, description="name of the domain; null: the folder's name, or in training every domain with target rows"
    )
    method: Literal["auto", "both", "standardise", "batchnorm", "coral", "label_propagation"] = Field(
        "auto",
        description="both: two views | standardise: features alone | batchnorm | auto: both where possible "
        "| coral, label_propagation: for comparison",
    )
    shift: float = Field(0.6, ge=0.5, le=1.0, description="least lower bound of the AUROC that tells the domains apart")
    class_gap: float = Field(0.3, ge=0.0, le=1.0, description="distance of the class shares from which on to stop")
    class_excess: float = Field(0.17, ge=0.0, le=1.0, description="gain of one class's share from which on to stop")
    agreement_gain: float = Field(0.05, ge=-1.0, le=1.0, description="least gain of the agreement of two views")
    min_images: int = Field(50, ge=20, le=1_000_000, description="fewest images to adapt to")
    max_images: int = Field(2000, ge=20, le=1_000_000, description="most images to adapt to; of more, an even sample")
    seed: Seed = Field(0, description="of the batches for BatchNorm and of the forest that measures the shift")


class EvaluateParams(Section):
    """How the model is measured, and how certain the numbers are."""

    bootstrap: int = Field(1000, ge=100, le=1_000_000, description="resamples behind each interval")
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    threshold: str = Field(
        "max_f1",
        pattern=THRESHOLD_GOAL,
        description="two classes: how the threshold is chosen: max_f1 | precision>=0.9 | recall>=0.9 | cost=alarm:miss",
    )
    positive: str | None = Field(None, description="two classes: the positive label; null: the second")
    slices: tuple[str, ...] = Field(
        (), description="columns to slice by; empty: domain, format, size and the manifest's own"
    )
    learning_curve: bool = Field(True, description="false: leave out accuracy by number of labelled images")
    explain: bool = Field(True, description="false: leave out where the model looked (Grad-CAM)")
    random_init: bool | Literal["auto"] = Field(
        "auto",
        description="compare with random weights: true, on all images; auto: on a sample, with up to 250 classes",
    )
    seed: Seed = 0

    @field_validator("threshold")
    @classmethod
    def _a_cost(cls, threshold: str) -> str:
        if threshold.startswith("cost=") and not any(map(float, threshold.removeprefix("cost=").split(":"))):
            raise PydanticCustomError("cost", "one of the two costs must be positive")
        return threshold


class RegisterModelParams(Section):
    """The name in the registry, and what a model must achieve to become champion."""

    name: str = Field(
        "auto", max_length=250, description="registered model name; auto: from the data, such as graft-digits"
    )
    promote: bool = Field(True, description="false: leave the new version a challenger")
    metric: Literal["accuracy", "balanced_accuracy", "macro_f1", "auroc", "average_precision"] = Field(
        "accuracy", description="test metric compared with the champion's and the majority baseline's"
    )
    tolerance: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.02,
        description="how far below the champion still counts as equal: the paired interval must exclude a larger drop",
    )
    class_floor: Annotated[float, Field(ge=0.0, le=1.0)] = Field(0.2, description="minimum recall of every class")
    max_ece: Annotated[float, Field(gt=0.0, le=1.0)] = Field(0.25, description="largest expected calibration error")
    decision: Literal["argmax", "threshold"] = Field(
        "argmax",
        description="the answer: the most probable class, or (two classes) the positive one at or above its threshold",
    )
    max_milliseconds: Annotated[float, Field(gt=0.0, le=1e9)] = Field(
        1000.0, description="longest time for one image, as the server measures it, on an otherwise idle machine"
    )

    @field_validator("name")
    @classmethod
    def _a_name_for_mlflow(cls, name: str) -> str:
        # MLflow would refuse it only after training; an @ or a quote could not be addressed or searched for.
        if not name.strip() or not name.isprintable() or any(sign in name for sign in "/:@'\"`"):
            raise PydanticCustomError("name", "is no name for MLflow: expected printable text without / : @ and quotes")
        if posixpath.normpath(name) != name or name.startswith("."):
            raise PydanticCustomError("name", "is no name for MLflow: it is also a part of a path")
        return name


class UpdateModelParams(Section):
    """How new images are added to a model that exists, see `graft.continual`."""

    model: str = Field(
        "models:/graft-digits@champion", description="models:/name@alias, models:/name/version, or a bundle's folder"
    )
    name: str = Field("auto", description="of this experience in the model's history; auto: its number")
    method: Literal["auto", "joint", "lda", "ridge", "replay", "naive"] = Field(
        "auto",
        description="joint: fit to all images again, from earlier features; lda, ridge: exactly, from the memory; "
        "auto: joint with earlier features, else the better of lda and ridge on held-out images; "
        "replay, naive: train the head further, with or without kept features, for comparison",
    )
    features: tuple[str, ...] = Field((), description="folders of the features of all images learnt so far, for joint")
    new_classes: Literal["ask", "allow", "refuse"] = Field(
        "ask", description="ask: stop at a new class whose name is nearly that of a known one; refuse: at any new one"
    )
    penalty: Penalty | Literal["auto"] = Field(
        "auto", description="shrinkage of lda, penalty of ridge; auto: by the log loss of held-out images"
    )
    tolerance: Fraction = Field(
        0.02, description="largest loss of accuracy on an earlier exam: the paired interval must exclude a larger one"
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = Field(0.95, description="of the intervals")
    seed: Seed = Field(0, description="of resampling, and of training a head further")


class Params(Section):
    """All sections, in the order of the steps."""

    get_data: GetDataParams = GetDataParams()
    validate_data: ValidateDataParams = ValidateDataParams()
    extract_features: ExtractFeaturesParams = ExtractFeaturesParams()
    train_head: TrainHeadParams = TrainHeadParams()
    review_features: ReviewFeaturesParams = ReviewFeaturesParams()
    fine_tune: FineTuneParams = FineTuneParams()
    adapt: AdaptParams = AdaptParams()
    evaluate: EvaluateParams = EvaluateParams()
    register_model: RegisterModelParams = RegisterModelParams()

    @classmethod
    def load(cls, path: Path | None = None, overrides: Iterable[str] = ()) -> "Params":
        """Read a file and apply `section.field=value` overrides (values are YAML).

        Args:
            path: of the file; None: `params.yaml` of the working folder, else that of Graft itself.
            overrides: replace its values.

        Raises:
            ParamsError: for a missing or broken file, an unknown name or a value of the wrong type.
        """
        path = path or default_file("params.yaml")
        overrides = list(overrides)
        values = apply_overrides(read_yaml(path), overrides)
        sections = {name: value for name, value in values.items() if name not in RUN_SETTINGS}
        return validate_values(cls, sections, str(path), dict.fromkeys(map(override_name, overrides), "PARAMS"))

    def section(self, name: str) -> dict[str, Any]:
        """Return one section as plain JSON values."""
        section: Section = getattr(self, name)
        return section.model_dump(mode="json")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; its values become plain when `validate_values` knows their fields.

    Raises:
        ParamsError: if it is missing, broken, or not a mapping.
    """
    try:
        values = load_yaml(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ParamsError(f"{path}: no such file; it holds the parameters of every step") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        found = values.text if isinstance(values, Written) else "nothing" if values is None else type(values).__name__
        raise ParamsError(f"{path}: expected one section per step, found {found}")
    return values


def apply_overrides(values: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return `values` with each override `section.field=value` applied (values are YAML).

    Raises:
        ParamsError: if an override does not have that form, or its value is not YAML.
    """
    changed = copy.deepcopy(values)
    for override in overrides:
        _apply(changed, override)
    return changed


def split_overrides(text: str) -> list[str]:
    """Return the words of a line of overrides, as a shell splits them.

    Raises:
        ParamsError: for a quote that is never closed.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ParamsError(
            f"PARAMS: {text!r}: {str(error).lower()}; close the quote, or put it in other quotes"
        ) from error


def validate_values(
    model: type[M], values: Mapping[str, Any], where: str, origins: Mapping[str, str] = _NO_ORIGINS
) -> M:
    """Build `model` from `values`, turning pydantic's errors into one clear line that names every field.

    Args:
        model: what to build; the types of its fields decide what values of `read_yaml` and `apply_overrides` are.
        values: by name.
        where: they are from.
        origins: of the fields that are from elsewhere, by dotted name.

    Raises:
        ParamsError: the message names each field, where its value is from, the value and what was expected.
    """
    try:
        return model.model_validate(settle(model, values))
    except ValidationError as error:
        faults: dict[tuple[str, str], list[str]] = {}
        for fault in error.errors():
            place, name, text = _fault(model, fault)
            known = (origin for own, origin in origins.items() if f"{place}.".startswith(f"{own}."))
            inner = (origin for own, origin in origins.items() if own.startswith(f"{place}.") and _made_by(own, values))
            faults.setdefault((next(known, next(inner, where)), name), []).append(text)
        lines: dict[str, list[str]] = {}
        for (origin, name), texts in faults.items():
            # A field of a union type reports one error for each type.
            lines.setdefault(origin, []).append(f"{name} {' or '.join(texts)}")
        raise ParamsError("; ".join(f"{origin}: {'; '.join(said)}" for origin, said in lines.items())) from error


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Written):
        yield value.text
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(name)
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _made_by(name: str, values: Mapping[str, Any]) -> bool:
    """Return whether what a field is in is there only because the field was set: it is alone in its section or field.

    So an unknown section may be the fault of an override of its field.
    """
    *parents, _ = name.split(".")
    for parent in parents:
        inner = values.get(parent)
        if not isinstance(inner, Mapping):
            return False
        values = inner
    return len(values) == 1


def override_name(override: str) -> str:
    """Return the dotted name of an override `section.field=value`."""
    return override.partition("=")[0].strip()


def _apply(values: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    section, dot, field = name.strip().partition(".")
    if equals and section in RUN_SETTINGS and not dot:
        values[section] = written(text, f"PARAMS: {override!r}: the value is not valid YAML")
        return
    if not (equals and dot and field):
        raise ParamsError(f"PARAMS: {override!r}: expected section.field=value, such as train_head.l2=0.1")
    branch = values
    *parents, leaf = [section, *field.split(".")]
    for place, parent in enumerate(parents, start=1):
        inner = branch.get(parent)
        if inner is None or (isinstance(inner, Written) and inner.is_null):
            inner = branch[parent] = {}
        if isinstance(inner, Written) and isinstance(inner.value, dict):
            inner = branch[parent] = inner.value
        if not isinstance(inner, dict):
            found = inner.text if isinstance(inner, Written) else inner
            raise ParamsError(
                f"PARAMS: {override!r}: {'.'.join(parents[:place])} is {found!r}, where a section of fields is expected"
            )
        branch = inner
    branch[leaf] = written(text, f"PARAMS: {override!r}: the value is not valid YAML")


def _fault(model: type[BaseModel], fault: Any) -> tuple[str, str, str]:
    """Return the field's dotted name, the same with its value, and what is wrong with it."""
    location: list[str] = []
    kind: Any = model
    known: list[str] = []
    for part in fault["loc"]:
        parent, kind = kind, inside(kind, part)
        if kind is None and fault["type"] != "extra_forbidden":
            break  # here pydantic names the members of a union, which are not part of the user's path
        location.append(str(part))
        known = [field for member in members(parent) for field in _fields(member)]
        if kind is None:
            break
    name = ".".join(location)
    if fault["type"] == "extra_forbidden":
        close = difflib.get_close_matches(location[-1], known, n=1) or _elsewhere(model, location)
        meant = " or ".join(map(repr, close))
        return (
            name,
            f"unknown parameter {name!r}:",
            f"did you mean {meant}?" if close else f"known here: {', '.join(known)}",
        )
    return name, mask_credentials(f"{name}={fault['input']!r}:"), fault["msg"][0].lower() + fault["msg"][1:]


def _elsewhere(model: type[BaseModel], location: list[str]) -> list[str]:
    """Return the dotted names of fields in other sections with the same name as the unknown field at `location`."""
    if len(location) != 2:
        return []
    sections = {name: inside(model, name) for name in _fields(model)}
    return [f"{name}.{location[1]}" for name, section in sections.items() if location[1] in _fields(section)]


def _fields(kind: Any) -> list[str]:
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []
