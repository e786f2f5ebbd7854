"""The Kubeflow component of step review_features; Kubeflow shows its page and its findings."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output, component

from components.image import image


@component(base_image=image("review_features"), packages_to_install=[], install_kfp_package=False)
def review_features(
    dataset: Input[Dataset],
    features: Input[Dataset],
    head: Input[Model],
    review: Output[Artifact],
    report: Output[HTML],
    metrics: Output[Metrics],
    params: dict,
) -> None:
    """Report problems of the data that only features show."""
    import shutil
    from pathlib import Path

    from components.review_features.step import review_features as step

    result = step.run(
        params=params,
        metrics=metrics.path,
        dataset=dataset.path,
        features=features.path,
        head=head.path,
        review=review.path,
    )
    shutil.copy(Path(review.path) / "review.html", report.path)
    for kind, count in result["findings"].items():
        metrics.log_metric(f"findings.{kind}", count)
