"""The step `fine_tune` for task instances: staged unfreezing from the fitted heads, as long as it clearly helps.

A stage trains the heads and the upper groups of the backbone on photos and their mirror images. Validation photos
judge it: it is kept only if the mean F1 of their objects rises by more than chance explains, and else rolled back.
"""

import copy
import json
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from graft.backbones.weights import tensors_digest
from graft.core.errors import ParamsError
from graft.decoders.stages import plan, rates
from graft.detectors.detector import Detector
from graft.detectors.detector_bundle import DetectorBundle, DetectorStage
from graft.detectors.photo_pixels import padded, prepared
from graft.detectors.targets import target_of
from graft.detectors.training import Schedule, train
from graft.finetune.score_verdict import judge_scores
from graft.objects.average_precision import best_score, counts_at, match
from graft.objects.object_dataset import ObjectDataset
from graft.params.fine_tune import FineTuneParams
from graft.runs.run_log import Log
from graft.runs.step import Metrics
from graft.tasks.pixels import refuse_others
from graft.training.checkpoints import Checkpoint, Checkpoints

USED_PARAMS = ("enabled", "strategy", "depth", "epochs", "lr", "layer_decay", "augment", "flip", "seed")
EPOCHS, LEARNING_RATE = 4, 3e-4
Floats = npt.NDArray[np.float64]


def fine_tune_objects(dataset_folder: Path, head: Path, model: Path, params: FineTuneParams, log: Log) -> Metrics:
    """Train upper groups in stages; each is kept only if it helps on the validation photos."""
    dataset, bundle = ObjectDataset.open(dataset_folder), DetectorBundle.load(head)
    refuse_others("fine_tune", params, USED_PARAMS, "instances")
    if params.augment not in ("auto", "none"):
        raise ParamsError(f"fine_tune.augment={params.augment!r}: task instances has auto (mirrored photos) and none")
    stages, untried = plan(bundle.spec.backbone.groups, dataset, params)
    if stages:
        bundle = _run(dataset, bundle, stages, params, log)
    bundle = DetectorBundle(bundle.spec.model_copy(update={"untried": untried}), bundle.network)
    bundle.save(model)
    spec = bundle.spec
    log.params({"decided": {"trained_groups": ",".join(spec.trained_groups), "score": spec.score}})
    return {
        "strategy": params.strategy if spec.stages else "frozen",
        "depth": spec.backbone.depth,
        "untried": untried,
        "stages": [stage.model_dump(mode="json") for stage in spec.stages],
        "trained_groups": list(spec.trained_groups),
        "score": round(spec.score, 4),
        "refit": False,
    }


def _run(
    dataset: ObjectDataset,
    bundle: DetectorBundle,
    stages: list[tuple[str, ...]],
    params: FineTuneParams,
    log: Log,
) -> DetectorBundle:
    val = dataset.rows("val")
    groups_of_val = dataset.groups[val].astype(str)
    checkpoints = Checkpoints.of(
        {
            "data": dataset.spec.digest,
            "model": tensors_digest(bundle.network.state_dict()),
            "params": json.loads(params.model_dump_json()),
            "task": "instances",
        }
    )
    before, score = _f1(dataset, bundle)
    found: list[DetectorStage] = []
    for groups in stages:
        started = time.monotonic()
        network = copy.deepcopy(bundle.network)
        losses = _train(dataset, network, groups, params, checkpoints.one(groups[0]))
        tried = DetectorBundle(bundle.spec, network)
        after, score_after = _f1(dataset, tried)
        gain, error, kept, reason = judge_scores("F1", before, after, groups_of_val, params.strategy)
        print(f"fine_tune: {groups[0]}: {reason}", file=sys.stderr, flush=True)
        log.metric(f"stage_{groups[0]}_held_out_f1", float(after.mean()))
        found.append(
            DetectorStage(
                name=groups[0],
                groups=groups,
                epochs=len(losses),
                start_f1=float(before.mean()),
                f1=float(after.mean()),
                gain=gain,
                error=error,
                train_loss=tuple(losses),
                kept=kept,
                reason=reason,
                seconds=round(time.monotonic() - started, 1),
            )
        )
        if not kept:
            break
        spec = bundle.spec.model_copy(update={"trained_groups": groups, "score": score_after})
        bundle, before, score = DetectorBundle(spec, network), after, score_after
    checkpoints.clear()
    bundle.network.trained = frozenset()
    bundle.network.eval()
    return DetectorBundle(bundle.spec.model_copy(update={"stages": tuple(found), "score": score}), bundle.network)


def _train(
    dataset: ObjectDataset,
    network: Detector,
    groups: tuple[str, ...],
    params: FineTuneParams,
    checkpoint: Checkpoint | None,
) -> list[float]:
    """Train the heads and some groups in place; return the mean loss of every epoch."""
    epochs = EPOCHS if params.epochs == "auto" else params.epochs
    rate = LEARNING_RATE if params.lr == "auto" else params.lr
    transform = network.backbone.spec.transform
    network.trained = frozenset(groups)
    for name, group in zip(network.backbone.spec.groups, network.backbone.groups, strict=True):
        group.requires_grad_(name in network.trained)
    network.heads.requires_grad_(True)  # an earlier stage has frozen them

    def loss_of(row: int, mirrored: bool) -> torch.Tensor:
        pixels, fit = prepared(dataset.photos[row], transform)
        maps = network.maps(padded(pixels.flip(-1) if mirrored else pixels, transform, fit)[None])
        return network.heads.losses(maps, fit, target_of(dataset.objects(row), fit, mirrored=mirrored))

    groups_of_rates = rates(network.heads, network.backbone, groups, rate, params.layer_decay)
    schedule = Schedule(epochs, params.seed, flip=params.augment == "auto", what="fine_tune")
    losses = train(network, groups_of_rates, dataset.rows("train"), loss_of, schedule, checkpoint)
    network.requires_grad_(False)
    return losses


def _f1(dataset: ObjectDataset, bundle: DetectorBundle) -> tuple[Floats, float]:
    """Return F1 of every validation photo's objects at the score that suits the model best, and that score."""
    rows = dataset.rows("val")
    answers = list(bundle.answers((dataset.photos[int(row)] for row in rows), "fine_tune", len(rows)))
    matches = match([dataset.objects(int(row)) for row in rows], answers, len(bundle.spec.labels))
    found = best_score(matches)
    score = bundle.spec.score if found is None else found
    return counts_at(matches, score).f1, score
