"""The step `review_features`: problems of the data that only features show, as pages and a queue for a person."""

from pathlib import Path
from typing import TYPE_CHECKING

from graft.params.review_features import ReviewFeaturesParams
from graft.runs.run_log import Log
from graft.runs.step import In, Metrics, Out, step
from graft.tasks.pixels import pixel_task

if TYPE_CHECKING:
    from graft.data.dataset import ImageDataset
    from graft.quality.findings import Finding


@step
def review_features(
    dataset: In, features: In, head: In, review: Out, params: ReviewFeaturesParams, log: Log
) -> Metrics:
    """Find copies that hashes miss, domain shift and suspected label errors, and write them for review."""
    # late: a wrong parameter should fail before the slow import of scikit-learn
    task = pixel_task(head)
    if task is not None and task.kind == "segment":
        from graft.pixel_reports.mask_review import review_masks

        return review_masks(dataset, head, review, params, log)
    if task is not None:
        from graft.pixel_reports.object_review import review_objects

        return review_objects(dataset, features, head, review, params, log)

    from graft.backbones.feature_store import FeatureStore
    from graft.data.dataset import ImageDataset
    from graft.quality.feature_checks import check_features
    from graft.reports.feature_page import write_review

    images, store = ImageDataset.read(dataset), FeatureStore.read(features)
    limits, reference = params.thresholds, Path(params.reference) if params.reference else None
    checked = check_features(images, store, limits.similarity, limits.shift, params.seed, reference)
    findings = [*checked.findings, *_label_errors(images, head, review)]
    write_review(review, images, store, findings, checked.shifts)
    log.artifact(review, "review")
    for finding in findings:
        log.metric(f"findings.{finding.kind}", finding.count)
    for shift in checked.shifts:
        log.metric(f"shift.{shift.between[1]}", shift.auroc)
    return {
        "findings": {finding.kind: finding.count for finding in findings},
        "shift": {shift.between[1]: [shift.low, shift.auroc, shift.high] for shift in checked.shifts},
    }


def _label_errors(images: "ImageDataset", head: Path, review: Path) -> "list[Finding]":
    """Write the queue of suspected label errors; of several tasks, it names the one that each row is about."""
    import pandas as pd

    from graft.heads.out_of_fold import read_out_of_fold
    from graft.models.bundle_files import task_folder
    from graft.quality.label_errors import suspected_labels
    from graft.reports.label_page import write_queue

    reader, queues, checked = images.reader(), [], 0
    for number, task in enumerate(images.tasks):
        own = images.of_task(task)
        rows = own.labelled("train")
        trained = images.table.iloc[rows].reset_index(drop=True)
        probabilities = read_out_of_fold(task_folder(head, task.name if number else ""), trained["id"], task.labels)
        queue = suspected_labels(trained, probabilities, task)
        if queue is None:
            continue
        queue["row"] = rows[queue["row"].to_numpy()]
        queues.append(queue.assign(task=task.name) if images.further_tasks else queue)
        checked += len(rows)
    if not queues:
        return []
    whole = queues[0] if len(queues) == 1 else pd.concat(queues).sort_values("score", ascending=False, kind="stable")
    spec = images.spec
    suspected = write_queue(
        review, whole, checked, lambda row: reader[row], channels=spec.channels, values=spec.value_range
    )
    return [suspected] if suspected else []


if __name__ == "__main__":
    review_features.main()
