"""The Kubeflow component of step validate_data; Kubeflow shows its page and its findings."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Output, component

from components.image import image


@component(base_image=image("validate_data"), packages_to_install=[], install_kfp_package=False)
def validate_data(
    raw: Input[Dataset],
    dataset: Output[Dataset],
    page: Output[Artifact],
    report: Output[HTML],
    metrics: Output[Metrics],
    params: dict,
) -> None:
    """Check every image, split, and write the dataset."""
    import shutil
    from pathlib import Path

    from components.validate_data.step import validate_data as step

    try:
        result = step.run(params=params, metrics=metrics.path, raw=raw.path, dataset=dataset.path, page=page.path)
    finally:
        # A failing verdict has a page too, which says why.
        if (Path(page.path) / "data.html").is_file():
            shutil.copy(Path(page.path) / "data.html", report.path)
    for kind, count in result["findings"].items():
        metrics.log_metric(f"findings.{kind}", count)
