"""The step `evaluate`: metrics on the test images, which no earlier step has used, and the page about them."""

from typing import TYPE_CHECKING

from graft.params.evaluate import EvaluateParams
from graft.runs.run_log import Log, TaskLog
from graft.runs.step import In, Metrics, Out, step
from graft.runs.time_limit import left_out
from graft.tasks.pixels import pixel_task

if TYPE_CHECKING:
    from graft.evaluation.schema import Evaluation


@step
def evaluate(
    dataset: In, features: In, head: In, model: In, evaluation: Out, params: EvaluateParams, log: Log
) -> Metrics:
    """Measure the model on the test images and write the report."""
    # late: a wrong parameter should fail before the slow import of torch
    task = pixel_task(model)
    if task is not None and task.kind == "segment":
        from graft.pixel_reports.mask_report import evaluate_masks

        return evaluate_masks(dataset, features, head, model, evaluation, params, log)
    if task is not None:
        from graft.pixel_reports.object_report import evaluate_objects

        return evaluate_objects(dataset, features, head, model, evaluation, params, log)

    from graft.backbones.feature_store import FeatureStore
    from graft.core.atomic import write_text
    from graft.data.dataset import ImageDataset
    from graft.evaluation.domain_table import source_by_target, write_table
    from graft.evaluation.several_tasks import check_positive, evaluate_tasks
    from graft.models.bundle import ModelBundle
    from graft.reports.domain_section import with_domains
    from graft.reports.write_evaluation import REPORT_FILE, write_report

    images, store = ImageDataset.read(dataset), FeatureStore.read(features)
    check_positive(images.tasks, params)
    bundle = ModelBundle.load(model)
    tasks = evaluate_tasks(images, store, ModelBundle.load(head), bundle, params)
    write_report(evaluation, tasks)
    test = tasks[0].answers.of_split("test")
    table = source_by_target(images, model, bundle, images.task.correct(test.model, test.targets))
    if table:
        write_table(evaluation, table)
        page = evaluation / REPORT_FILE
        write_text(page, with_domains(page.read_text("utf-8"), table))
    first = _recorded(tasks[0].found, log)
    log.artifact(evaluation)
    together = tasks[0].found.together
    if together is None:
        return first
    by_task = {one.found.task.name: _recorded(one.found, TaskLog(log, one.found.task.name)) for one in tasks}
    if together.all_right.value is not None:
        log.metric("test_all_right", together.all_right.value)
        log.summary({"test_all_right": together.all_right.value})
    return {**first, "tasks": by_task, "together": together.model_dump(mode="json")}


def _recorded(found: "Evaluation", log: Log) -> Metrics:
    """Record the scores of a task and return its metrics."""
    scores = {f"test_{name}": score.value for name, score in found.test.items() if score.value is not None}
    for name, value in scores.items():
        log.metric(name, value)
    log.summary(scores)
    plain = found.model_dump(mode="json")
    shown = {name: plain[name] for name in ("test", "val", "head", "baseline", "comparison", "per_class")}
    return {**shown, "left_out": left_out()}


if __name__ == "__main__":
    evaluate.main()
