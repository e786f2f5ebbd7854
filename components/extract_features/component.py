"""The Kubeflow face of step extract_features: paths in, paths out."""

from kfp.dsl import Dataset, Input, Metrics, Output, component

from components.image import image


@component(base_image=image("extract_features"), packages_to_install=[], install_kfp_package=False)
def extract_features(
    dataset: Input[Dataset],
    features: Output[Dataset],
    metrics: Output[Metrics],
    params: dict,
) -> None:
    """Run the frozen backbone once over every image."""
    from components.extract_features.step import extract_features as step

    step.run(params=params, metrics=metrics.path, dataset=dataset.path, features=features.path)
