"""The Kubeflow component of step get_data: paths in, paths out."""

from kfp.dsl import Dataset, Metrics, Output, component

from components.image import image


@component(base_image=image("get_data"), packages_to_install=[], install_kfp_package=False)
def get_data(
    raw: Output[Dataset],
    metrics: Output[Metrics],
    params: dict,
    source: str = "",
) -> None:
    """Fetch the raw images; a source, if given, replaces that of the section."""
    from components.get_data.step import get_data as step

    step.run(params=params | ({"source": source} if source else {}), metrics=metrics.path, raw=raw.path)
