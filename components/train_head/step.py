"""The step `train_head`: how much of the backbone to reuse, a head on it, and what it shows of the data."""

import sys
from pathlib import Path

from graft.runs.params import TrainHeadParams
from graft.runs.run_log import Log
from graft.runs.step import In, Metrics, Out, step


@step
def train_head(dataset: In, features: In, head: Out, review: Out, params: TrainHeadParams, log: Log) -> Metrics:
    """Choose the depth by cross-validation, fit the head on the training images, and cut the backbone there."""
    # late: a wrong parameter should not cost the import of torch
    from graft.backbones.feature_store import FeatureStore
    from graft.backbones.pretrained_classifier import known_as
    from graft.data.dataset import ImageDataset
    from graft.heads.depth_selection import decide, gather
    from graft.heads.full_fit import fit_whole
    from graft.models.fit_head import head_metrics, head_of
    from graft.quality.feature_checks import look_again
    from graft.reports.feature_page import write_review
    from graft.reports.label_page import review_labels

    images, store = ImageDataset.read(dataset), FeatureStore.read(features)
    limits, reference = params.thresholds, Path(params.reference) if params.reference else None
    seen = look_again(images, store, limits.similarity, limits.shift, params.seed, reference)
    evidence = gather(store, params)
    if evidence.overlap:
        print(f"train_head: the source knows {known_as(evidence.overlap.labels)}", file=sys.stderr, flush=True)
    reuse = decide(evidence, params.reuse_depth, params.head)
    whole = fit_whole(evidence, reuse)
    bundle = head_of(evidence, reuse, whole)
    bundle.save(head)
    trained, reader = store.table.iloc[evidence.train].reset_index(drop=True), images.reader()
    suspected = None
    if images.task.exclusive:
        suspected = review_labels(
            review,
            trained,
            whole.probabilities,
            store.classes,
            lambda row: reader[int(evidence.train[row])],
            images.spec.channels,
        )
    findings = [*seen.findings, *([suspected] if suspected else [])]
    write_review(review, images, findings, seen.shifts)
    log.artifact(review, "review")
    result = head_metrics(evidence, reuse, bundle)
    result["findings"] = {finding.kind: finding.count for finding in findings}
    result["shift"] = {shift.between[1]: [shift.low, shift.auroc, shift.high] for shift in seen.shifts}
    for kind, count in result["findings"].items():
        log.metric(f"findings.{kind}", count)
    for shift in seen.shifts:
        log.metric(f"shift.{shift.between[1]}", shift.auroc)
    for number, point in enumerate(bundle.spec.curve):
        log.metric("reuse_depth_accuracy", point.accuracy, step=number)
    for score in bundle.spec.zero_shot:
        log.metric(f"zero_shot.{score.split}", score.accuracy)
        print(f"train_head: before any training it is {score.told()}", file=sys.stderr, flush=True)
    decided = {"depth": bundle.spec.backbone.depth, "taps": ",".join(reuse.taps), "head": reuse.kind}
    log.params({"decided": {**decided, "l2": bundle.spec.l2}})
    for name, value in {**result["cv"], **{f"val_{key}": value for key, value in result["val"].items()}}.items():
        log.metric(name, value)
    return result


if __name__ == "__main__":
    train_head.main()
