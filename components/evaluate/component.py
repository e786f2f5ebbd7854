"""The Kubeflow component of step evaluate: paths in, paths out."""

from kfp.dsl import HTML, Artifact, ClassificationMetrics, Dataset, Input, Metrics, Model, Output, component

from components.image import image


@component(base_image=image("evaluate"), packages_to_install=[], install_kfp_package=False)
def evaluate(
    dataset: Input[Dataset],
    features: Input[Dataset],
    head: Input[Model],
    model: Input[Model],
    evaluation: Output[Artifact],
    page: Output[HTML],
    classification: Output[ClassificationMetrics],
    metrics: Output[Metrics],
    params: dict,
) -> None:
    """Measure the model on the test images and write the report."""
    import shutil
    from pathlib import Path

    from components.evaluate.step import evaluate as step
    from graft.evaluation.schema import read_evaluation, read_roc
    from graft.tasks.pixels import pixel_task

    step.run(
        params=params,
        metrics=metrics.path,
        dataset=dataset.path,
        features=features.path,
        head=head.path,
        model=model.path,
        evaluation=evaluation.path,
    )
    shutil.copy(Path(evaluation.path) / "report.html", page.path)
    if pixel_task(Path(evaluation.path)) is None:  # masks and objects have neither a confusion matrix nor a curve
        found = read_evaluation(Path(evaluation.path))
        if found.confusion:
            classification.log_confusion_matrix(list(found.classes), found.confusion)
        if found.positive is not None:
            classification.log_roc_curve(*read_roc(Path(evaluation.path)))
    # KFP stores what is logged as metadata; its cache treats an output without a file as missing.
    shutil.copy(Path(evaluation.path) / "scores.json", classification.path)
