"""The parameters as KFP takes them."""

from typing import Any

from graft.params import Params


def pipeline_arguments(params: Params) -> dict[str, dict[str, Any]]:
    """Return one dict per section, for the pipeline's parameter of the same name.

    A field that is null is left out: KFP has no null, and null is the default of every field that takes it.
    """
    return {
        name: {field: value for field, value in params.section(name).items() if value is not None}
        for name in type(params).model_fields
    }
