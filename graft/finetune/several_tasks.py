"""Fine-tuning a model of several tasks: one backbone for all of them, and a head for each."""

from collections.abc import Sequence

import numpy as np

from graft.backbones.feature_store import FeatureStore
from graft.data.dataset import ImageDataset
from graft.finetune.staged import fine_tune
from graft.heads.protocols import Floats
from graft.models.bundle import ModelBundle
from graft.models.fit_abstention import with_abstention
from graft.models.joined import together
from graft.models.joint_bundle import JointBundle
from graft.params.fine_tune import FineTuneParams
from graft.runs.run_log import Log
from graft.tasks.task import Targets
from graft.training.objective import Logits


def fine_tune_tasks(
    dataset: ImageDataset,
    bundle: ModelBundle,
    params: FineTuneParams,
    log: Log,
    out_of_fold: Sequence[Floats | None],
    store: FeatureStore | None = None,
) -> ModelBundle:
    """Return the model after the stages that helped one task clearly and harmed none.

    Args:
        dataset: the images.
        bundle: the trained heads on frozen features.
        params: the section.
        log: receives the losses.
        out_of_fold: of each task, see `staged.fine_tune`.
        store: what the frozen backbone makes of these images; None: it is computed again where it is needed.

    Raises:
        ParamsError: for a kind of task that cannot be trained together with others.
    """
    joint = JointBundle.of(bundle)
    images = dataset.of_task(joint.task)
    val_targets = images.targets()[images.labelled("val")]

    def finish(result: ModelBundle, images: ImageDataset, tuned: ModelBundle, val_logits: Logits | None) -> ModelBundle:
        assert isinstance(result, JointBundle)
        assert isinstance(tuned, JointBundle)
        pairs = zip(result.separated(), tuned.separated(), joint.task.separate(val_targets), strict=True)
        heads = tuple(
            with_abstention(
                one,
                dataset.of_task(part.task),
                unseen=before,
                val_logits=None if val_logits is None else val_logits[part.rows][:, part.outputs],
            )
            for one, before, part in pairs
        )
        return result.with_abstentions([one.abstention for one in heads])

    known = _side_by_side(images, out_of_fold)
    result = fine_tune(images, joint, params, log, known, store, finish)
    assert isinstance(result, JointBundle)
    return together(result.separated(val_targets))


def _side_by_side(images: ImageDataset, out_of_fold: Sequence[Floats | None]) -> Floats | None:
    """Return the out-of-fold probabilities of all tasks for the training images, NaN where a task has no label."""
    found = [one for one in out_of_fold if one is not None]
    if len(found) < len(out_of_fold):
        return None
    targets: Targets = images.targets()[images.labelled("train")]
    whole = np.full((len(targets), images.task.outputs), np.nan)
    for part, probabilities in zip(images.task.separate(targets), found, strict=True):
        whole[np.flatnonzero(part.rows)[:, None], np.arange(part.outputs.start, part.outputs.stop)] = probabilities
    return whole
