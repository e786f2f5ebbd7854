"""The step `train_head`: choose how much of the backbone to reuse, and fit a head on it."""

import sys

from graft.params.train_head import TrainHeadParams
from graft.runs.run_log import Log, TaskLog
from graft.runs.step import In, Metrics, Out, step
from graft.tasks.pixels import pixel_task


@step
def train_head(features: In, head: Out, params: TrainHeadParams, log: Log) -> Metrics:
    """Choose the depth by cross-validation, fit the head on the training images, and cut the backbone there.

    Of several tasks each has its own depth, kind of head and penalty.
    """
    # late: a wrong parameter should fail before the slow import of torch
    task = pixel_task(features)
    if task is not None and task.kind == "segment":
        from graft.decoders.fit import train_decoder

        return train_decoder(features, head, params, log)
    if task is not None:
        from graft.detectors.fit import train_detector

        return train_detector(features, head, params, log)

    from graft.backbones.feature_store import FeatureStore
    from graft.continual.state import state_from_cache, why_no_memory
    from graft.models.learn_head import learn_heads, save_heads

    store = FeatureStore.read(features)
    learnt = learn_heads(store, params, _print)
    bundle = save_heads(learnt, head)
    if params.memory and (reason := why_no_memory(bundle)):
        _print(f"no memory is kept, because {reason}")
    elif params.memory:
        state_from_cache(bundle, store, exam=params.exam).save(head)
    first, tasks = learnt[0].metrics, {one.bundle.task.name: one.metrics for one in learnt}
    _record(first, log)
    if len(tasks) == 1:
        return first
    for name, metrics in tasks.items():
        _record(metrics, TaskLog(log, name))
    return {**first, "tasks": tasks}


def _print(text: str) -> None:
    print(f"train_head: {text}", file=sys.stderr, flush=True)


def _record(metrics: Metrics, log: Log) -> None:
    """Record the decisions, the accuracy by depth and the scores."""
    decided = {"depth": metrics["depth"], "taps": ",".join(metrics["taps"]), "head": metrics["head"]}
    log.params({"decided": {**decided, "l2": metrics["l2"]}})
    for number, point in enumerate(metrics["curve"]):
        log.metric("reuse_depth_accuracy", point["accuracy"], step=number)
    for split, score in metrics["zero_shot"].items():
        log.metric(f"zero_shot.{split}", score["accuracy"])
    for name, value in {**metrics["cv"], **{f"val_{key}": value for key, value in metrics["val"].items()}}.items():
        log.metric(name, value)


if __name__ == "__main__":
    train_head.main()
