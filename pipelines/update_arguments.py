"""The parameters of the update pipeline: its defaults are in update/params.yaml."""

from pathlib import Path
from typing import Any

from graft.core.installed import default_file
from graft.params.checking import validate_values
from graft.params.get_data import GetDataParams
from graft.params.overrides import apply_overrides, read_yaml, split_overrides
from graft.params.register_model import RegisterModelParams
from graft.params.section import Section
from graft.params.update_model import UpdateModelParams
from graft.params.validate_data import ValidateDataParams

UPDATE_PARAMS = "update/params.yaml"


class UpdateParams(Section):
    """The arguments of `pipelines.update`, one section per step."""

    get_data: GetDataParams = GetDataParams()
    validate_data: ValidateDataParams = ValidateDataParams()
    update_model: UpdateModelParams = UpdateModelParams()
    register_update: RegisterModelParams = RegisterModelParams()

    def arguments(self) -> dict[str, Any]:
        """Return the pipeline's arguments as plain values without nulls: KFP has no null."""
        return self.model_dump(mode="json", exclude_none=True)


def load_update_params(overrides: str, data: str = "", model: str = "", file: Path | None = None) -> UpdateParams:
    """Read the parameters, and override them from the command line.

    Args:
        overrides: `section.field=value ...`.
        data: new images, in place of `get_data`.
        model: the model's address, in place of `update_model.model`.
        file: with the defaults; None: update/params.yaml of the working folder, else that of Graft itself.

    Raises:
        ParamsError: for an unknown name or a value of the wrong type.
    """
    file = file or default_file(UPDATE_PARAMS)
    values = apply_overrides(read_yaml(file), split_overrides(overrides))
    if data:
        values["get_data"] = {"source": data}
    if model:
        values["update_model"] = (values.get("update_model") or {}) | {"model": model}
    return validate_values(UpdateParams, values, where=str(file))
