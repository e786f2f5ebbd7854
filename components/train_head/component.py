"""The Kubeflow component of step train_head: paths in, paths out."""

from kfp.dsl import Dataset, Input, Metrics, Model, Output, component

from components.image import image


@component(base_image=image("train_head"), packages_to_install=[], install_kfp_package=False)
def train_head(
    features: Input[Dataset],
    head: Output[Model],
    metrics: Output[Metrics],
    params: dict,
) -> None:
    """Fit the new output layer on cached features."""
    from components.train_head.step import train_head as step

    step.run(params=params, metrics=metrics.path, features=features.path, head=head.path)
