"""The Kubeflow face of step validate_data: paths in, paths out."""

from kfp.dsl import Artifact, Dataset, Input, Metrics, Output, component

from components.image import image


@component(base_image=image("validate_data"), packages_to_install=[], install_kfp_package=False)
def validate_data(
    raw: Input[Dataset],
    dataset: Output[Dataset],
    page: Output[Artifact],
    metrics: Output[Metrics],
    params: dict,
) -> None:
    """Check every image, split, and write the dataset."""
    from components.validate_data.step import validate_data as step

    step.run(params=params, metrics=metrics.path, raw=raw.path, dataset=dataset.path, page=page.path)
