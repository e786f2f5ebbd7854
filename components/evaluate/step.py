"""The step `evaluate`: metrics on the test images, which no earlier step has used, and the page about them."""

from graft.runs.params import EvaluateParams
from graft.runs.run_log import Log
from graft.runs.step import In, Metrics, Out, step
from graft.runs.time_limit import left_out
from graft.tasks.pixels import pixel_task


@step
def evaluate(
    dataset: In, features: In, head: In, model: In, evaluation: Out, params: EvaluateParams, log: Log
) -> Metrics:
    """Measure the model on the test images and write the report."""
    # late: a wrong parameter should fail before the slow import of torch
    if (task := pixel_task(model)) is not None:
        from graft.reports.pixel_reports import evaluator

        return evaluator(task.kind)(dataset, features, head, model, evaluation, params, log)

    from graft.backbones.feature_store import FeatureStore
    from graft.data.dataset import ImageDataset
    from graft.evaluation.error_gallery import make_gallery
    from graft.evaluation.evaluate import evaluate_model
    from graft.evaluation.operating_point import positive_index
    from graft.evaluation.predictions import predict_held_out
    from graft.models.bundle import ModelBundle
    from graft.reports.write_evaluation import write_report

    images, store = ImageDataset.read(dataset), FeatureStore.read(features)
    positive_index(params.positive, images.task)  # a wrong label should fail before all images are predicted
    head_bundle, bundle = ModelBundle.load(head), ModelBundle.load(model)
    answers = predict_held_out(images, store, head_bundle, bundle)
    found = evaluate_model(images, store, head_bundle, bundle, answers, params)
    gallery = make_gallery(images, store, bundle, answers, found, explain=params.explain)
    write_report(evaluation, images, answers, found, gallery, head_bundle.spec, bundle.spec)
    scores = {f"test_{name}": score.value for name, score in found.test.items() if score.value is not None}
    for name, value in scores.items():
        log.metric(name, value)
    log.summary(scores)
    log.artifact(evaluation)
    plain = found.model_dump(mode="json")
    shown = {name: plain[name] for name in ("test", "val", "head", "baseline", "comparison", "per_class")}
    return {**shown, "left_out": left_out()}


if __name__ == "__main__":
    evaluate.main()
