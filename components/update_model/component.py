"""The Kubeflow component of step update_model: paths in, paths out."""

from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output, component

from components.image import image


@component(base_image=image("update_model"), packages_to_install=[], install_kfp_package=False)
def update_model(
    dataset: Input[Dataset],
    model: Output[Model],
    examination: Output[Artifact],
    metrics: Output[Metrics],
    params: dict,
) -> None:
    """Add new images to a model, and examine it on everything learnt so far."""
    from components.update_model.step import update_model as step

    step.run(
        params=params,
        metrics=metrics.path,
        dataset=dataset.path,
        model=model.path,
        examination=examination.path,
    )
