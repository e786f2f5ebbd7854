"""The Kubeflow component of step get_data: paths in, paths out."""

from kfp.dsl import Dataset, Metrics, Output, component

from components.image import image


@component(base_image=image("get_data"), packages_to_install=[], install_kfp_package=False)
def get_data(
    raw: Output[Dataset],
    metrics: Output[Metrics],
    params: dict,
) -> None:
    """Fetch the raw images."""
    from components.get_data.step import get_data as step

    step.run(params=params, metrics=metrics.path, raw=raw.path)
