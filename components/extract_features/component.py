"""The Kubeflow components of step extract_features. A cluster may split the images among workers."""

from kfp.dsl import Dataset, Input, Metrics, Output, component

from components.image import image


@component(base_image=image("extract_features"), packages_to_install=[], install_kfp_package=False)
def extract_features(
    dataset: Input[Dataset],
    features: Output[Dataset],
    metrics: Output[Metrics],
    params: dict,
    backbone: str = "",
    parts: Input[list[Dataset]] = None,
) -> None:
    """Run the frozen backbone once over every image, or join the parts from workers.

    A backbone, if given, replaces that of the section.
    """
    from components.extract_features.step import extract_features as step

    step.run(
        params=params | ({"backbone": backbone} if backbone else {}),
        metrics=metrics.path,
        dataset=dataset.path,
        features=features.path,
        parts=[part.path for part in parts or []],
    )


@component(base_image=image("extract_features"), packages_to_install=[], install_kfp_package=False)
def extract_shard(
    dataset: Input[Dataset],
    part: Output[Dataset],
    metrics: Output[Metrics],
    params: dict,
    shard: int,
    shards: int,
    backbone: str = "",
) -> None:
    """Run the frozen backbone once over every image of one part."""
    from components.extract_features.step import extract_shard as step

    step.run(
        params={**params, **({"backbone": backbone} if backbone else {}), "shard": shard, "shards": shards},
        metrics=metrics.path,
        dataset=dataset.path,
        part=part.path,
    )
