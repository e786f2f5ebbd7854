"""The step `fine_tune`: staged unfreezing from the trained head, as long as it helps.

Under torchrun its processes share every batch: `torchrun --nproc-per-node 2 -m components.fine_tune.step ...`.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from graft.params.fine_tune import FineTuneParams
from graft.runs.processes import Peers, Process
from graft.runs.run_log import Log
from graft.runs.step import In, Metrics, Out, distributed_step
from graft.tasks.pixels import pixel_task

if TYPE_CHECKING:
    from graft.data.dataset import ImageDataset
    from graft.heads.protocols import Floats


def _join(process: Process) -> AbstractContextManager[Peers]:
    from graft.training.distributed import joined  # late: it imports torch

    return joined(process)


@distributed_step(_join)
def fine_tune(dataset: In, features: In, head: In, tuned: Out, params: FineTuneParams, log: Log) -> Metrics:
    """Train upper parts of the backbone further, in stages; a stage is kept only if it helps on held-out images."""
    # late: a wrong parameter should fail before the slow import of torch
    task = pixel_task(head)
    if task is not None and task.kind == "segment":
        from graft.decoders.stages import fine_tune_masks

        return fine_tune_masks(dataset, head, tuned, params, log)
    if task is not None:
        from graft.detectors.stages import fine_tune_objects

        return fine_tune_objects(dataset, head, tuned, params, log)

    from graft.backbones.feature_store import FeatureStore
    from graft.continual.state import ContinualState, has_state, state_of_trained
    from graft.core.errors import ModelError
    from graft.data.dataset import ImageDataset
    from graft.finetune.several_tasks import fine_tune_tasks
    from graft.finetune.staged import fine_tune as run_stages
    from graft.models.bundle import ModelBundle
    from graft.models.bundle_files import task_folder
    from graft.models.fit_renormed_head import with_renormed_head

    images, store = ImageDataset.read(dataset), FeatureStore.read(features)
    if store.spec.dataset_digest != images.spec.digest:
        raise ModelError(f"{features}: features of another dataset than {dataset}; run extract_features again")
    start = ModelBundle.load(head)
    if start.further:
        places = [task_folder(head, task.name if number else "") for number, task in enumerate(images.tasks)]
        pairs = zip(places, images.tasks, strict=True)
        found = [_out_of_fold(place, images.of_task(task)) for place, task in pairs]
        bundle = fine_tune_tasks(images, start, params, log, found, store)
    else:
        bundle = run_stages(images, start, params, log, _out_of_fold(head, images), store)
    bundle = with_renormed_head(bundle, images)
    bundle.save(tuned)
    if has_state(head):
        state_of_trained(bundle, images, ContinualState.load(head)).save(tuned)
    spec = bundle.spec
    for stage in spec.stages:
        log.metric(f"stage_{stage.name}_held_out_accuracy", stage.accuracy)
    log.params({"decided": {"trained_groups": ",".join(spec.trained_groups), "temperature": spec.temperature}})
    return {
        "strategy": params.strategy if spec.stages else "frozen",
        "depth": spec.backbone.depth,
        "untried": spec.untried,
        "stages": [stage.model_dump(mode="json") for stage in spec.stages],
        "trained_groups": list(spec.trained_groups),
        "temperature": round(spec.temperature, 4),
        "refit": spec.refit,
    }


def _out_of_fold(head: Path, images: "ImageDataset") -> "Floats | None":
    """Return what train_head predicted for training images that the predicting model had not seen."""
    from graft.heads.out_of_fold import OUT_OF_FOLD_FILE, read_out_of_fold

    if not (head / OUT_OF_FOLD_FILE).is_file():
        return None
    return read_out_of_fold(head, images.table["id"].iloc[images.labelled("train")], images.classes)


if __name__ == "__main__":
    fine_tune.main()
