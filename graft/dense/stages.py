"""Staged unfreezing of a model about pixels, as long as it clearly helps.

A stage trains the head and the upper groups of the backbone. Validation photos judge it: it is kept only if their mean
score rises by more than chance explains, photo by photo, and else rolled back. So the result is never worse than the
head on frozen features, as far as the evidence goes.
"""

import copy
import json
import math
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from graft.backbones.weights import tensors_digest
from graft.core.errors import ParamsError
from graft.dense.dense_bundle import DenseBundle, Stage
from graft.dense.network import DenseNetwork
from graft.finetune.score_verdict import judge_scores
from graft.masks.dataset import MaskDataset
from graft.params.fine_tune import FineTuneParams
from graft.runs.run_log import Log
from graft.runs.step import Metrics
from graft.training.checkpoints import Checkpoint, Checkpoints

QUARTERS = 4
MOST_STAGES = 2
LEAST_VALIDATION = 8
N = TypeVar("N", bound=DenseNetwork)


class Measured(NamedTuple):
    """How good a network is on the validation photos."""

    scores: npt.NDArray[np.float64]
    """Of every photo (n,), higher is better."""
    chosen: Mapping[str, float]
    """Fields of the bundle's spec that suit this network best."""


class StageTrainer(ABC, Generic[N]):
    """How one kind of network is trained and measured."""

    metric: str
    """Name of the score of a photo, such as `Dice`."""
    stage: type[Stage]
    """Has the means of the score before and after, named `start_<metric>` and `<metric>` in lower case."""

    @abstractmethod
    def measure(self, network: N) -> Measured:
        """Return the scores of the validation photos."""

    @abstractmethod
    def train(self, network: N, groups: tuple[str, ...], checkpoint: Checkpoint | None) -> list[float]:
        """Train the head and some groups in place; return the mean loss of every epoch."""


def plan(groups: tuple[str, ...], dataset: MaskDataset, params: FineTuneParams) -> tuple[list[tuple[str, ...]], str]:
    """Return the groups of each stage, and why none is tried.

    Raises:
        ParamsError: for a strategy or depth that tasks about pixels do not have.
    """
    if params.strategy == "surgical" or params.augment == "custom":
        name = "strategy=surgical" if params.strategy == "surgical" else "augment=custom"
        raise ParamsError(f"fine_tune.{name}: task {dataset.task.kind} has no such choice")
    if params.depth not in ("auto", *groups):
        raise ParamsError(f"fine_tune.depth={params.depth!r}: expected auto or a reused group: {', '.join(groups)}")
    if not params.enabled:
        return [], "fine_tune.enabled is false"
    photos, least = len(dataset.rows("val")), LEAST_VALIDATION if params.strategy == "staged" else 1
    if photos < least:
        return [], f"{photos} validation photos cannot judge a stage (at least {least})"
    if params.strategy == "all":
        return [groups], ""
    if params.depth != "auto":
        return [groups[groups.index(params.depth) :]], ""
    step = math.ceil(len(groups) / QUARTERS)
    starts = [len(groups) - step * (number + 1) for number in range(MOST_STAGES)]
    return [tuple(groups[start:]) for start in starts if start > 0], ""


B = TypeVar("B", bound=DenseBundle[Any, Any])


def fine_tune_bundle(
    bundle: B,
    dataset: MaskDataset,
    make_trainer: Callable[[], StageTrainer[Any]],
    told: str,
    model: Path,
    params: FineTuneParams,
    log: Log,
) -> Metrics:
    """Train upper groups in stages until one does not help, and write the best model; return what the step tells.

    Args:
        bundle: the head on frozen maps.
        dataset: the photos.
        make_trainer: called if there is a stage to try.
        told: field of the bundle's spec that is recorded.
        model: where the result is written.
        params: of the step.
        log: of the run.
    """
    stages, untried = plan(bundle.spec.backbone.groups, dataset, params)
    if stages:
        bundle = _tried(bundle, dataset, stages, make_trainer(), params, log)
    bundle = _with(bundle, {"untried": untried})
    bundle.save(model)
    spec = bundle.spec
    log.params({"decided": {"trained_groups": ",".join(spec.trained_groups), told: getattr(spec, told)}})
    return {
        "strategy": params.strategy if spec.stages else "frozen",
        "depth": spec.backbone.depth,
        "untried": untried,
        "stages": [stage.model_dump(mode="json") for stage in spec.stages],
        "trained_groups": list(spec.trained_groups),
        told: round(getattr(spec, told), 4),
        "refit": False,
    }


def _tried(
    bundle: B,
    dataset: MaskDataset,
    stages: Sequence[tuple[str, ...]],
    trainer: StageTrainer[Any],
    params: FineTuneParams,
    log: Log,
) -> B:
    """Return the best model, with what came of each stage."""
    groups_of_val = dataset.groups[dataset.rows("val")].astype(str)
    checkpoints = Checkpoints.of(
        {
            "data": dataset.spec.digest,
            "model": tensors_digest(bundle.network.state_dict()),
            "params": json.loads(params.model_dump_json()),
            "task": dataset.task.kind,
        }
    )
    key = trainer.metric.lower()
    before = trainer.measure(bundle.network)
    bundle = _with(bundle, before.chosen)
    found: list[Stage] = []
    for groups in stages:
        started = time.monotonic()
        network = copy.deepcopy(bundle.network)
        losses = trainer.train(network, groups, checkpoints.one(groups[0]))
        after = trainer.measure(network)
        verdict = judge_scores(trainer.metric, before.scores, after.scores, groups_of_val, params.strategy)
        print(f"fine_tune: {groups[0]}: {verdict.reason}", file=sys.stderr, flush=True)
        mean = float(after.scores.mean())
        log.metric(f"stage_{groups[0]}_held_out_{key}", mean)
        content = {
            "name": groups[0],
            "groups": groups,
            "epochs": len(losses),
            **verdict._asdict(),
            "train_loss": tuple(losses),
            "seconds": round(time.monotonic() - started, 1),
            f"start_{key}": float(before.scores.mean()),
            key: mean,
        }
        found.append(trainer.stage.model_validate(content))
        if not verdict.kept:
            break
        bundle, before = _with(replace(bundle, network=network), {"trained_groups": groups, **after.chosen}), after
    checkpoints.clear()
    bundle.network.freeze()
    return _with(bundle, {"stages": tuple(found)})


def _with(bundle: B, values: Mapping[str, Any]) -> B:
    return replace(bundle, spec=bundle.spec.model_copy(update=dict(values)))
