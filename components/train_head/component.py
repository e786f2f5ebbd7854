"""The Kubeflow face of step train_head: paths in, paths out."""

from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output, component

from components.image import image


@component(base_image=image("train_head"), packages_to_install=[], install_kfp_package=False)
def train_head(
    dataset: Input[Dataset],
    features: Input[Dataset],
    head: Output[Model],
    review: Output[Artifact],
    metrics: Output[Metrics],
    params: dict,
) -> None:
    """Fit the new output layer on cached features, and tell what they say about the data."""
    from components.train_head.step import train_head as step

    step.run(
        params=params,
        metrics=metrics.path,
        dataset=dataset.path,
        features=features.path,
        head=head.path,
        review=review.path,
    )
