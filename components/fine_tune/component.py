"""The Kubeflow component of step fine_tune: paths in, paths out. A cluster may distribute the training over nodes."""

from kfp.dsl import Dataset, Input, Metrics, Model, Output, component

from components.image import image


@component(base_image=image("fine_tune"), packages_to_install=[], install_kfp_package=False)
def fine_tune(
    dataset: Input[Dataset],
    features: Input[Dataset],
    head: Input[Model],
    tuned: Output[Model],
    metrics: Output[Metrics],
    params: dict,
    budget: str = "",
) -> None:
    """Train part of the backbone further, where that helps; a budget, if given, replaces that of the section."""
    import os

    from components.fine_tune.nodes import run_on_nodes
    from components.fine_tune.step import fine_tune as step

    run = run_on_nodes if "GRAFT_TRAIN_JOB" in os.environ else step.run
    run(
        params=params | ({"budget": budget} if budget else {}),
        metrics=metrics.path,
        dataset=dataset.path,
        features=features.path,
        head=head.path,
        tuned=tuned.path,
    )
