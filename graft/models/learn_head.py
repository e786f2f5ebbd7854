"""What is learnt of each task from cached features: the choice of a head, its fit, its out-of-fold answers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.backbones.feature_store import FeatureStore
from graft.backbones.pretrained_classifier import describe_overlap
from graft.core.errors import ParamsError
from graft.heads.depth_selection import choose_head
from graft.heads.full_fit import fit_to_all_images
from graft.heads.head_inputs import prepare_head_inputs
from graft.heads.out_of_fold import write_out_of_fold
from graft.heads.protocols import Floats
from graft.models.bundle import ModelBundle
from graft.models.bundle_files import task_folder
from graft.models.fit_head import head_metrics, make_head_bundle
from graft.models.joined import together
from graft.params.train_head import TrainHeadParams

Say = Callable[[str], None]


@dataclass(frozen=True)
class LearntHead:
    """The head of one task."""

    bundle: ModelBundle
    ids: tuple[str, ...]
    """Content ids of its training images (n,)."""
    out_of_fold: Floats
    """Their probabilities (n, C), each from a probe that has not seen the image."""
    metrics: dict[str, Any]


def learn_heads(store: FeatureStore, params: TrainHeadParams, say: Say) -> list[LearntHead]:
    """Learn every task of the features on its own: each chooses its groups, its kind of head and its penalty.

    Args:
        store: the features.
        params: the section of the step.
        say: is told what a user should know.

    Raises:
        ParamsError: for parameters that the tasks cannot have.
    """
    several = bool(store.further_tasks)
    if several and (params.init != "fit" or params.source_labels):
        raise ParamsError("train_head.init and source_labels are for one task; leave them out with several")
    return [_learn(store.of_task(task), params, _about(task.name, say) if several else say) for task in store.tasks]


def save_heads(learnt: list[LearntHead], folder: Path) -> ModelBundle:
    """Write the heads as one bundle, with their out-of-fold answers; return the bundle."""
    bundle = learnt[0].bundle if len(learnt) == 1 else together([one.bundle for one in learnt])
    bundle.save(folder)
    for number, one in enumerate(learnt):
        task = one.bundle.task
        write_out_of_fold(task_folder(folder, task.name if number else ""), one.ids, task.labels, one.out_of_fold)
    return bundle


def _about(task: str, say: Say) -> Say:
    return lambda text: say(f"{task}: {text}")


def _learn(store: FeatureStore, params: TrainHeadParams, say: Say) -> LearntHead:
    inputs = prepare_head_inputs(store, params)
    if inputs.overlap:
        say(f"the source knows {describe_overlap(inputs.overlap.labels)}")
    if excluded := inputs.excluded():
        say(excluded)
    choice = choose_head(inputs, params.reuse_depth, params.head)
    full_fit = fit_to_all_images(inputs, choice)
    bundle = make_head_bundle(inputs, choice, full_fit, params.tag_goal)
    for score in bundle.spec.zero_shot:
        say(f"before any training it is {score.describe()}")
    ids = tuple(store.table["id"].iloc[inputs.train])
    return LearntHead(bundle, ids, full_fit.probabilities, head_metrics(inputs, choice, bundle))
