"""Adapt a registered model to a folder of unlabelled images: a page, a verdict and, if it is kept, a challenger."""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from graft.adapt.adaptation import AdaptationResult, adapt
from graft.adapt.label_check import LabelledCheck
from graft.adapt.target_images import TargetImages
from graft.batch_prediction.folder_prediction import image_files
from graft.core.atomic import replacing, write_json
from graft.core.errors import DataError, GraftError
from graft.data.dataset import ImageDataset
from graft.data.safe_paths import read_bytes
from graft.models.bundle import ModelBundle
from graft.models.export import PixelNetwork, pixel_network
from graft.params.adapt import AdaptParams
from graft.revision.adaptation_page import LeftOut, summarise, write_page
from graft.revision.adapted_versions import SMOKE_IMAGES, register_adapted
from graft.runs import tracking
from graft.runs.run_log import Log
from graft.runs.step_outputs import latest_output
from graft.serving.challenger import Provenance
from graft.serving.latency import latency_milliseconds
from graft.serving.loading import fetch_model
from graft.serving.training_images import TrainingImages

MODEL, SUMMARY = "model", "summary.json"
TURNS = 5


@dataclass(frozen=True)
class SourceModel:
    """The model to adapt."""

    address: str
    """`models:/name/3` for a registered one, whatever alias it was asked for by; else its folder."""
    bundle: ModelBundle
    folder: Path
    """Of the bundle's files."""
    name: str | None
    """Registered name; None for a bundle that is not registered."""
    seen: TrainingImages | None
    """What it was trained on; None if that is not known."""

    @classmethod
    def load(cls, address: str, work: Path) -> "SourceModel":
        """Load a bundle's folder or a registered model.

        Args:
            address: a folder, `models:/name@alias` or `models:/name/version`.
            work: an empty folder for downloads.

        Raises:
            ModelError: if the folder holds no bundle.
            RegistryError: if the registry has no such model.
        """
        found = fetch_model(address, work)
        seen = TrainingImages.read(found.evidence) if found.evidence else None
        return cls(found.address, found.load(), found.bundle, found.name, seen)


def adapt_to_folder(
    address: str,
    folder: Path,
    out: Path,
    params: AdaptParams,
    log: Log,
    check: Path | None = None,
    run: Path | None = None,
) -> dict[str, Any]:
    """Adapt a model to a folder of images, and write the model, a page and a summary into `out`.

    A model that is left alone is written as it was, byte for byte. Only an adapted version of a registered model is
    registered, as a challenger.

    Args:
        address: of the model: a bundle's folder, `models:/name@champion` or `models:/name/3`.
        folder: of unlabelled images, with any subfolders, whose names mean nothing.
        out: created if missing.
        params: method and limits.
        log: receives the numbers and the page.
        check: CSV file of labelled images of this domain, which are not adapted to.
        run: output folder of the run that made the model; if its images are there, the page shows some of them.

    Returns:
        The content of `summary.json`.

    Raises:
        GraftError: if the images or the model cannot be used.
    """
    domain = params.domain or folder.resolve().name
    with tempfile.TemporaryDirectory() as work:
        source = SourceModel.load(address, Path(work))
        labels = source.bundle.spec.labels
        known = LabelledCheck.read(check, folder, labels) if check else None
        everything = TargetImages.of(folder, image_files(folder))
        images, left_out = _usable(everything, source.seen, known)
        result = adapt(source.bundle, images, params, source.address, domain, known)
        _write_model(result, source, out / MODEL)
        version = times = None
        if result.record.kept:
            times = latencies(source.bundle, result)
            if source.name is not None:
                some, origin = _some_contents(result.images), Provenance(_run_id())
                version = register_adapted(
                    source.name, result.bundle, out / MODEL, some, source.seen, source.address, origin
                )
    summary = summarise(result, left_out, times, version.uri if version else None)
    write_json(out / SUMMARY, summary)
    training = _images_of_run(run, source.bundle) if run else None
    page = write_page(out, result, left_out, times, version.uri if version else None, labels, training)
    for name, value in _numbers(summary).items():
        log.metric(name, value)
    log.artifact(page)
    log.tag("model", source.address)
    log.tag("domain", domain)
    log.tag("adapted", str(result.record.kept).lower())
    return summary


def _images_of_run(run: Path, bundle: ModelBundle) -> ImageDataset | None:
    """Return the images that a model was trained on; None if a run's folder does not have them."""
    place = latest_output(run, "validate-data", "dataset")
    if place is None:
        return None
    try:
        found = ImageDataset.read(place)
    except (GraftError, OSError):
        return None
    return found if found.spec.digest == bundle.spec.dataset_digest else None


def _usable(
    images: TargetImages, seen: TrainingImages | None, check: LabelledCheck | None
) -> tuple[TargetImages, LeftOut]:
    """Return the images that the model may be adapted to, and how many are left out for which reason."""
    ids = pd.Series(images.ids, dtype=object)
    trained = np.zeros(len(images), np.bool_)
    if seen is not None and len(images):
        trained = seen.contain(pd.DataFrame({"id": ids, "group": ids}))
    checked = ids.isin(check.ids if check else ()).to_numpy(np.bool_)
    usable = images.kept(~trained & ~checked)
    if not len(usable):
        raise DataError(
            f"{images.folder}: no image to adapt to: of {len(images)} different ones the model was trained on "
            f"{int(trained.sum())}, and {int((checked & ~trained).sum())} are in the check file"
        )
    return usable, LeftOut(int(trained.sum()), int((checked & ~trained).sum()), images.copies)


def _write_model(result: AdaptationResult, source: SourceModel, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if result.record.kept:
        result.bundle.save(place)
        return
    with replacing(place, checksums=False) as temporary:
        shutil.copytree(source.folder, temporary)


def latencies(source: ModelBundle, result: AdaptationResult) -> tuple[float, float]:
    """Return the milliseconds that one image takes through the network before and after.

    Both are measured in turns, and the shortest time of each counts: other load on the machine hits both.
    """
    contents, transform = _some_contents(result.images), source.transform
    networks = [pixel_network(bundle.classifier) for bundle in (source, result.bundle)]

    def milliseconds(network: PixelNetwork) -> float:
        with torch.inference_mode():
            return latency_milliseconds(lambda image: network(transform.pixels(image)[None]), contents)

    before, after = np.min([[milliseconds(network) for network in networks] for _ in range(TURNS)], axis=0)
    return float(before), float(after)


def _some_contents(images: TargetImages) -> list[bytes]:
    chosen = images.at_most(SMOKE_IMAGES)
    return [read_bytes(chosen.folder / file) for file in chosen.files]


def _run_id() -> str | None:
    log = tracking.current()
    return log.run_id if log else None


def _numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the summary's numbers by dotted name."""
    found: dict[str, float] = {}
    for name, value in summary["adaptation"].items():
        if isinstance(value, bool | int | float):
            found[f"adaptation.{name}"] = float(value)
        elif isinstance(value, dict) and "value" in value and value["value"] is not None:
            found[f"adaptation.{name}"] = float(value["value"])
    return found
