"""The Kubeflow component of step adapt: paths in, paths out."""

from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output, component

from components.image import image


@component(base_image=image("adapt"), packages_to_install=[], install_kfp_package=False)
def adapt(
    dataset: Input[Dataset],
    tuned: Input[Model],
    model: Output[Model],
    adaptation: Output[Artifact],
    metrics: Output[Metrics],
    params: dict,
) -> None:
    """Hand the model through, with an adapted one for each target domain where that is safe."""
    from components.adapt.step import adapt as step

    step.run(
        params=params,
        metrics=metrics.path,
        dataset=dataset.path,
        tuned=tuned.path,
        model=model.path,
        adaptation=adaptation.path,
    )
