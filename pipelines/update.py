"""The update pipeline: new images, validated, join what a model has learnt; the result is examined and registered.

graft compile --pipeline update --profile k8s
graft submit --pipeline update --data /data/new --model models:/graft-digits@champion
"""

from kfp import dsl

from components.get_data.component import get_data as get_data_step
from components.register_update.component import register_update as register_update_step
from components.update_model.component import update_model as update_model_step
from components.validate_data.component import validate_data as validate_data_step

STEPS = ["get_data", "validate_data", "update_model", "register_update"]


@dsl.pipeline(name="graft-update")
def update(get_data: dict, validate_data: dict, update_model: dict, register_update: dict) -> None:
    """From new labelled images to a new version of a model that exists; one parameter per section."""
    raw = get_data_step(params=get_data).outputs["raw"]
    dataset = validate_data_step(params=validate_data, raw=raw).outputs["dataset"]
    updated = update_model_step(params=update_model, dataset=dataset)
    register_update_step(
        params=register_update,
        dataset=dataset,
        model=updated.outputs["model"],
        examination=updated.outputs["examination"],
    )
