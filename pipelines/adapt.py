"""Adaptation as a Kubeflow pipeline: a registered model adapts to images from DVC or a folder that nobody has labelled.

graft compile --pipeline adapt --profile k8s
graft submit --pipeline adapt --data /data/night --model models:/graft-digits@champion
"""

from kfp.dsl import HTML, Dataset, Input, Metrics, Model, Output, component, pipeline

from components.get_data.component import get_data as get_data_step
from components.image import image

STEPS = ["get_data", "adapt_registered"]


@component(base_image=image("adapt"), packages_to_install=[], install_kfp_package=False)
def adapt_registered(
    raw: Input[Dataset],
    adapted: Output[Model],
    page: Output[HTML],
    metrics: Output[Metrics],
    params: dict,
    model: str,
    check: str,
) -> None:
    """Adapt the model if the guards allow it, and register the result as a challenger."""
    import shutil
    from pathlib import Path

    from graft.core.atomic import write_json, write_text
    from graft.core.errors import GraftError
    from graft.params.adapt import AdaptParams
    from graft.params.checking import validate_values
    from graft.revision.adaptation_page import PAGE
    from graft.revision.domain_adaptation import adapt_to_folder
    from graft.runs import tracking
    from graft.runs.step import ERROR_FILE

    out = Path(adapted.path)
    try:
        settled = validate_values(AdaptParams, params, where="adapt")
        with tracking.step_run("adapt", {"model": model, "check": check, **settled.model_dump(mode="json")}) as log:
            # A path that is not absolute is one inside the images' folder.
            labelled = Path(raw.path) / check if check else None
            found = adapt_to_folder(model, Path(raw.path), out, settled, log, labelled)
            tracking.finish_pipeline()
    except GraftError as error:
        line = f"adapt: {error}"
        write_text(Path(metrics.path).with_name(ERROR_FILE), line + "\n")
        raise SystemExit(line) from error
    shutil.copy(out / PAGE, page.path)
    write_json(Path(metrics.path), found)
    metrics.log_metric("adapted", float(found["adaptation"]["kept"]))


@pipeline(name="graft-adapt")
def adapt_pipeline(
    get_data: dict, adapt_params: dict, model: str = "models:/graft-digits@champion", check: str = ""
) -> None:
    """From new images to a challenger for their domain, or to the reason why there is none."""
    raw = get_data_step(params=get_data).outputs["raw"]
    adapt_registered(raw=raw, params=adapt_params, model=model, check=check)
