"""The Kubeflow face of step evaluate: paths in, paths out."""

from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output, component

from components.image import image


@component(base_image=image("evaluate"), packages_to_install=[], install_kfp_package=False)
def evaluate(
    dataset: Input[Dataset],
    features: Input[Dataset],
    head: Input[Model],
    model: Input[Model],
    evaluation: Output[Artifact],
    metrics: Output[Metrics],
    params: dict,
) -> None:
    """Measure the model on the test images and write the report."""
    from components.evaluate.step import evaluate as step

    step.run(
        params=params,
        metrics=metrics.path,
        dataset=dataset.path,
        features=features.path,
        head=head.path,
        model=model.path,
        evaluation=evaluation.path,
    )
