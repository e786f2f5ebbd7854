"""Heads that need features and not only statistics: fitted to all images, or trained further on new ones."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from graft.continual.exam import Exam
from graft.continual.head_choice import ChosenHead
from graft.continual.state import LabelledFeatures
from graft.heads.linear_probe import PENALTIES, Linear, fit_path, standardisation
from graft.heads.protocols import TrainingSet
from graft.tasks.task import Task

EPOCHS, BATCH, STEP = 20, 32, 1e-3
"""Of training a head further with Adam."""
LEAST_STEPS = 600
"""Of few images more epochs are trained, until so many steps are taken."""


def choose_joint(
    learnt: LabelledFeatures, validation: Exam, task: Task, widths: Sequence[int] | None = None
) -> ChosenHead:
    """Return a linear head fitted to all images, its penalty chosen by the validation images.

    Args:
        learnt: all images that are learnt, the validation images among them.
        validation: held-out images that choose.
        task: what is learnt.
        widths: number of features of each tap, where several are concatenated.
    """
    labels = np.array(task.labels, dtype=str)
    targets = np.searchsorted(labels, learnt.names).astype(np.int64)
    held = np.searchsorted(labels, validation.names).astype(np.int64)
    train = learnt.split == "train"
    images = TrainingSet(learnt.features[train], targets[train], task, widths=widths)
    judged = np.isin(validation.names, learnt.names[train])
    tried: list[tuple[float, float, float, npt.NDArray[np.float64]]] = []
    if judged.any():
        for penalty, head in zip(PENALTIES, fit_path(images, PENALTIES), strict=True):
            logits = head.logits(validation.features[judged])
            temperature = task.fit_temperature(logits, held[judged])
            tried.append((float(task.losses(logits / temperature, held[judged]).mean()), penalty, temperature, logits))
            if len(tried) > 2 and min(one[0] for one in tried[-2:]) > min(one[0] for one in tried[:-2]):
                break
    loss, penalty, temperature, logits = min(tried, default=(np.nan, 1e-3, 1.0, np.zeros((0, task.outputs))))
    (head,) = fit_path(TrainingSet(learnt.features, targets, task, widths=widths), [penalty])
    reason = f"fitted to all {len(learnt):,} images; log loss of {int(judged.sum())} held-out images: {loss:.3f}"
    return ChosenHead(head, "joint", penalty, temperature, reason, judged, logits)


def train_further(
    start: Linear,
    data: LabelledFeatures,
    replayed: Exam | None,
    validation: Exam,
    task: Task,
    seed: int = 0,
) -> ChosenHead:
    """Return a linear head trained further on new images alone, or on kept features too: what forgets.

    Args:
        start: the head before, with a row for each of the task's labels.
        data: new images; those for training are learnt.
        replayed: kept features that are learnt again; None: none.
        validation: held-out images for the temperature; of experiences that are not replayed.
        task: what is learnt.
        seed: of the order of images.
    """
    labels = np.array(task.labels, dtype=str)
    new = data.part(~data.held_out)
    features, names = new.features, new.names
    if replayed is not None:
        features = np.concatenate([features, replayed.features])
        names = np.concatenate([names, replayed.names])
    targets = np.searchsorted(labels, names).astype(np.int64)
    head = _trained(start, features, targets, seed)
    logits = head.logits(validation.features)
    held = np.searchsorted(labels, validation.names).astype(np.int64)
    temperature = task.fit_temperature(logits, held) if len(validation) else 1.0
    method = "naive" if replayed is None else "replay"
    kept = "" if replayed is None else f" and {len(replayed)} kept ones"
    reason = f"trained further for {_epochs(len(features))} epochs on {len(new):,} new images{kept}"
    return ChosenHead(head, method, 0.0, temperature, reason, np.ones(len(validation), np.bool_), logits)


def _trained(start: Linear, features: npt.NDArray[np.float32], targets: npt.NDArray[np.int64], seed: int) -> Linear:
    import torch  # late: of this module only this needs it
    from torch.nn.functional import cross_entropy

    mean, scale = start.mean, start.scale
    if not np.any(start.mean):  # a head that is not linear leaves nothing to start from
        mean, scale = standardisation(features)
    weight = torch.from_numpy(start.weight * scale).requires_grad_()
    bias = torch.from_numpy(start.bias + start.weight @ mean).requires_grad_()
    x, y = torch.from_numpy((features - mean) / scale), torch.from_numpy(targets)
    optimiser = torch.optim.Adam([weight, bias], lr=STEP)
    order = torch.Generator().manual_seed(seed)
    for _ in range(_epochs(len(x))):
        for rows in torch.split(torch.randperm(len(x), generator=order), BATCH):
            optimiser.zero_grad()
            cross_entropy(x[rows] @ weight.T + bias, y[rows]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    slopes = weight.detach().numpy() / scale
    return Linear(slopes, bias.detach().numpy() - slopes @ mean, mean=mean, scale=scale)


def _epochs(images: int) -> int:
    return max(EPOCHS, math.ceil(LEAST_STEPS * BATCH / images))
