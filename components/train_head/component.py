"""The Kubeflow face of step train_head: paths in, paths out, and what features show of the data as a page."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output, component

from components.image import image


@component(base_image=image("train_head"), packages_to_install=[], install_kfp_package=False)
def train_head(
    dataset: Input[Dataset],
    features: Input[Dataset],
    head: Output[Model],
    review: Output[Artifact],
    report: Output[HTML],
    metrics: Output[Metrics],
    params: dict,
) -> None:
    """Fit the new output layer on cached features, and tell what they say about the data."""
    import shutil
    from pathlib import Path

    from components.train_head.step import train_head as step

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
