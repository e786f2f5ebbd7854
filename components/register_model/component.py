"""The Kubeflow component of step register_model: paths in, paths out."""

from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output, OutputPath, component

from components.image import image


@component(base_image=image("register_model"), packages_to_install=[], install_kfp_package=False)
def register_model(
    dataset: Input[Dataset],
    model: Input[Model],
    evaluation: Input[Artifact],
    registration: Output[Artifact],
    metrics: Output[Metrics],
    alias: OutputPath(str),  # type: ignore[valid-type]
    params: dict,
    name: str = "",
) -> None:
    """Register the model and promote it if it is good enough; a name, if given, replaces that of the section."""
    from pathlib import Path

    from components.register_model.step import register_model as step

    found = step.run(
        params=params | ({"name": name} if name else {}),
        metrics=metrics.path,
        dataset=dataset.path,
        model=model.path,
        evaluation=evaluation.path,
        registration=registration.path,
    )
    Path(alias).write_text(found["alias"], encoding="utf-8")  # champion or challenger: a graph may branch on it
