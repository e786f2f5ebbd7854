"""Batch prediction as a Kubeflow pipeline: a registered model predicts images from DVC or a folder.

graft compile --pipeline batch --profile k8s
graft submit --pipeline batch --data /data/new --model models:/graft-digits@champion
"""

from kfp.dsl import HTML, Dataset, Input, Metrics, Output, component, pipeline

from components.get_data.component import get_data as get_data_step
from components.image import image

STEPS = ["get_data", "batch_predict"]


@component(base_image=image("batch_predict"), packages_to_install=[], install_kfp_package=False)
def batch_predict(
    raw: Input[Dataset], predictions: Output[Dataset], drift: Output[HTML], metrics: Output[Metrics], model: str
) -> None:
    """Predict every image, and compare the images with those that the model was tested on."""
    import shutil
    from pathlib import Path

    from graft.batch_prediction.monitoring import predict_and_compare
    from graft.core.atomic import write_json, write_text
    from graft.core.errors import GraftError
    from graft.runs import tracking
    from graft.runs.step import ERROR_FILE

    out = Path(predictions.path)
    try:
        with tracking.step_run("batch_predict", {"model": model}) as log:
            found = predict_and_compare(model, Path(raw.path), out, log)
            tracking.finish_pipeline()
    except GraftError as error:
        line = f"batch_predict: {error}"
        write_text(Path(metrics.path).with_name(ERROR_FILE), line + "\n")
        raise SystemExit(line) from error
    shutil.copy(out / "drift.html", drift.path)
    write_json(Path(metrics.path), found)
    for name, value in found.items():
        if isinstance(value, int | float):
            metrics.log_metric(name, float(value))


@pipeline(name="graft-batch")
def batch(get_data: dict, model: str = "models:/graft-digits@champion") -> None:
    """From new images to a table of predictions and a drift page."""
    raw = get_data_step(params=get_data).outputs["raw"]
    batch_predict(raw=raw, model=model)
