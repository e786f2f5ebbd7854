"""The step `train_head`: choose how much of the backbone to reuse, and fit a head on it."""

import sys

from graft.runs.params import TrainHeadParams
from graft.runs.run_log import Log
from graft.runs.step import In, Metrics, Out, step
from graft.tasks.pixels import pixel_task


@step
def train_head(features: In, head: Out, params: TrainHeadParams, log: Log) -> Metrics:
    """Choose the depth by cross-validation, fit the head on the training images, and cut the backbone there."""
    # late: a wrong parameter should fail before the slow import of torch
    if (task := pixel_task(features)) is not None:
        from graft.decoders.learners import learner

        return learner(task.kind).train(features, head, params, log)

    from graft.backbones.feature_store import FeatureStore
    from graft.backbones.pretrained_classifier import describe_overlap
    from graft.continual.state import state_from_cache, why_no_memory
    from graft.heads.depth_selection import choose_head, prepare_head_inputs
    from graft.heads.full_fit import fit_to_all_images
    from graft.heads.out_of_fold import write_out_of_fold
    from graft.models.fit_head import head_metrics, make_head_bundle

    store = FeatureStore.read(features)
    inputs = prepare_head_inputs(store, params)
    if inputs.overlap:
        _print(f"the source knows {describe_overlap(inputs.overlap.labels)}")
    if excluded := inputs.excluded():
        _print(excluded)
    choice = choose_head(inputs, params.reuse_depth, params.head)
    full_fit = fit_to_all_images(inputs, choice)
    bundle = make_head_bundle(inputs, choice, full_fit)
    bundle.save(head)
    write_out_of_fold(head, store.table["id"].iloc[inputs.train], store.classes, full_fit.probabilities)
    if params.memory and (reason := why_no_memory(bundle)):
        _print(f"no memory is kept, because {reason}")
    elif params.memory:
        state_from_cache(bundle, store, exam=params.exam).save(head)
    for score in bundle.spec.zero_shot:
        _print(f"before any training it is {score.describe()}")
    metrics = head_metrics(inputs, choice, bundle)
    _record(metrics, log)
    return metrics


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
