"""The Kubeflow component of step register_update: paths in, paths out."""

from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output, component

from components.image import image


@component(base_image=image("register_update"), packages_to_install=[], install_kfp_package=False)
def register_update(
    dataset: Input[Dataset],
    model: Input[Model],
    examination: Input[Artifact],
    registration: Output[Artifact],
    metrics: Output[Metrics],
    params: dict,
) -> None:
    """Register the updated model, and promote it if nothing is shown to be lost."""
    from components.register_update.step import register_update as step

    step.run(
        params=params,
        metrics=metrics.path,
        dataset=dataset.path,
        model=model.path,
        examination=examination.path,
        registration=registration.path,
    )
