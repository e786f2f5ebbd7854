"""The step `fine_tune`: staged unfreezing from the trained head, as long as it helps.

Under torchrun its processes share every batch: `torchrun --nproc-per-node 2 -m components.fine_tune.step ...`.
"""

from contextlib import AbstractContextManager

from graft.runs.params import FineTuneParams
from graft.runs.processes import Peers, Process
from graft.runs.run_log import Log
from graft.runs.step import In, Metrics, Out, distributed_step


def _join(process: Process) -> AbstractContextManager[Peers]:
    from graft.finetune.distributed import joined  # late: it imports torch

    return joined(process)


@distributed_step(_join)
def fine_tune(dataset: In, head: In, model: Out, params: FineTuneParams, log: Log) -> Metrics:
    """Train upper parts of the backbone further, in stages; a stage is kept only if it helps on held-out images."""
    # late: a wrong parameter should fail before the slow import of torch
    from graft.data.dataset import ImageDataset
    from graft.finetune.staged import fine_tune as run_stages
    from graft.models.bundle import ModelBundle

    bundle = run_stages(ImageDataset.read(dataset), ModelBundle.load(head), params, log)
    bundle.save(model)
    spec = bundle.spec
    for stage in spec.stages:
        log.metric(f"stage_{stage.name}_held_out_accuracy", stage.accuracy)
    log.params({"decided": {"trained_groups": ",".join(spec.trained_groups), "temperature": spec.temperature}})
    return {
        "strategy": params.strategy if spec.stages else "frozen",
        "depth": spec.backbone.depth,
        "stages": [stage.model_dump(mode="json") for stage in spec.stages],
        "trained_groups": list(spec.trained_groups),
        "temperature": round(spec.temperature, 4),
        "refit": spec.refit,
    }


if __name__ == "__main__":
    fine_tune.main()
