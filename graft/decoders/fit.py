"""The step `train_head` for task segment: choose the maps, fit the decoder, and say what it does on photos unseen."""

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from graft.backbones.backbone import Backbone, load_backbone
from graft.core.parquet import read_table, write_table
from graft.decoders.decoder import enlarged
from graft.decoders.dense_maps import MapStore
from graft.decoders.mask_bundle import MaskBundle, MaskBundleSpec, MaskNetwork
from graft.decoders.training import DecoderSettings, epochs_for, fit_decoder, square_logits
from graft.dense.map_choice import choose_levels, score_maps
from graft.masks.scores import mean_interval, object_mean, overlap
from graft.params.train_head import TrainHeadParams
from graft.runs.run_log import Log
from graft.runs.step import Metrics
from graft.stats.temperature_scaling import fit_temperature
from graft.tasks.pixels import IGNORED, refuse_others

USED_PARAMS = ("reuse_depth", "class_weight", "folds", "memory", "exam", "seed")
OUT_OF_FOLD_FILE = "out_of_fold.parquet"
HALVES = 2
CALIBRATION_PIXELS = 200
"""Pixels of each photo that fit the temperature."""


def train_decoder(features: Path, head: Path, params: TrainHeadParams, log: Log) -> Metrics:
    """Choose the maps by cross-validated probes, fit the decoder, and cut the backbone after the coarsest map."""
    store = MapStore.read(features)
    refuse_others("train_head", params, USED_PARAMS, store.spec.task.kind)
    train = store.rows("train")
    curve = score_maps(store, train, len(store.spec.task.labels), params.folds, params.seed)
    levels = choose_levels(store, curve, params.reuse_depth)
    settings = DecoderSettings(epochs_for(len(train)), params.class_weight, params.seed)
    table, temperature = cross_fitted(store, levels, train, settings)
    decoder = fit_decoder(store, levels, train, settings)
    backbone = _truncated(store, levels)
    used = tuple(store.spec.levels[level].group for level in levels)
    cv = mean_interval(table["iou"].to_numpy(), store.groups[train], 1000, 0.95, params.seed)
    spec = MaskBundleSpec(
        task=store.spec.task,
        labels=store.spec.task.labels,
        backbone=backbone.spec,
        source_groups=tuple(store.spec.backbone_content["groups"]),
        levels=used,
        channels=tuple(decoder.channels),
        dataset_digest=store.spec.dataset_digest,
        temperature=temperature,
        class_weight=params.class_weight,
        epochs=settings.epochs,
        seed=params.seed,
        curve=tuple(curve),
        cv_iou=(cv.value, cv.low, cv.high),
    )
    MaskBundle(spec, MaskNetwork(backbone, used, decoder)).save(head)
    write_table(head / OUT_OF_FOLD_FILE, table)
    for number, point in enumerate(curve):
        log.metric("reuse_depth_accuracy", point.accuracy, step=number)
    log.metric("cv_mean_iou", cv.value)
    log.params({"decided": {"depth": backbone.spec.depth, "taps": ",".join(used), "head": "decoder"}})
    print(
        f"train_head: decoder on the maps of {', '.join(used)}; mean IoU {cv.value:.3f} "
        f"({cv.low:.3f} to {cv.high:.3f}) on training photos not seen",
        file=sys.stderr,
        flush=True,
    )
    return {
        "depth": backbone.spec.depth,
        "taps": list(used),
        "head": "decoder",
        "parameters": sum(parameter.numel() for parameter in decoder.parameters()),
        "epochs": settings.epochs,
        "temperature": round(temperature, 4),
        "curve": [point.model_dump(mode="json") for point in curve],
        "cv": {"mean_iou": cv.value, "low": cv.low, "high": cv.high},
    }


def cross_fitted(
    store: MapStore, levels: tuple[int, ...], rows: npt.NDArray[np.int64], settings: DecoderSettings
) -> tuple[pd.DataFrame, float]:
    """Return the scores of training photos, each by a decoder that was fitted to the other half, and the temperature.

    Halves are of whole groups. Decoders of half the photos are a little worse than the one of all: what is told is a
    cautious estimate.
    """
    generator = np.random.default_rng(settings.seed)
    names, group = np.unique(store.groups[rows].astype(str), return_inverse=True)
    half = generator.permutation(len(names))[group] % HALVES
    classes, size = len(store.spec.task.labels), store.spec.transform.size
    found = []
    pixels: list[npt.NDArray[np.float32]] = []
    targets: list[npt.NDArray[np.int64]] = []
    for number in range(HALVES):
        own, other = rows[half == number], rows[half != number]
        if not len(own) or not len(other):
            continue
        decoder = fit_decoder(store, levels, other, settings, f"train_head half {number + 1} of {HALVES}")
        for row, logits in zip(own, square_logits(store, levels, decoder, own), strict=True):
            square = enlarged(logits[None], size)[0]
            mask = store.mask(int(row))
            both = overlap(mask, square.argmax(0).numpy().astype(np.uint8), classes)
            found.append((int(row), object_mean(both.iou), object_mean(both.dice)))
            y, x = np.nonzero(mask != IGNORED)
            chosen = generator.integers(0, len(y), CALIBRATION_PIXELS)
            pixels.append(square[:, y[chosen], x[chosen]].T.numpy())
            targets.append(mask[y[chosen], x[chosen]].astype(np.int64))
    table = pd.DataFrame(found, columns=["row", "iou", "dice"]).sort_values("row").reset_index(drop=True)
    table.insert(0, "path", store.table["path"].to_numpy()[table["row"].to_numpy()])
    temperature = fit_temperature(np.concatenate(pixels), np.concatenate(targets)) if pixels else 1.0
    return table, temperature


def read_out_of_fold(head: Path) -> pd.DataFrame:
    """Return the scores that `train_decoder` wrote: path, row, iou and dice of every training photo."""
    return read_table(head / OUT_OF_FOLD_FILE)


def _truncated(store: MapStore, levels: tuple[int, ...]) -> Backbone:
    return load_backbone(store.backbone_folder).truncated(store.spec.levels[levels[-1]].group)
