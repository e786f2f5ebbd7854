"""The parameters of the batch pipeline: images and model."""

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from graft.core.errors import ParamsError
from graft.params.checking import validate_values
from graft.params.get_data import GetDataParams
from graft.params.overrides import apply_overrides, split_overrides
from graft.params.section import Section

CHAMPION = "models:/graft-digits@champion"


class BatchParams(Section):
    """The arguments of `pipelines.batch`."""

    get_data: GetDataParams | None = Field(None, description="the images; null: set when a run starts")
    model: str = Field(CHAMPION, description="models:/name@alias, models:/name/version, or a bundle's absolute path")

    @field_validator("model")
    @classmethod
    def _address(cls, model: str) -> str:
        name, separator, version = model.removeprefix("models:/").replace("@", "/").partition("/")
        registered = model.startswith("models:/") and name and separator and version and "/" not in version
        if not registered and not model.startswith("/"):
            raise PydanticCustomError(
                "address",
                "expected models:/name@alias, models:/name/version, or the absolute path of a bundle on a volume "
                "that the profile mounts",
            )
        return model

    def arguments(self) -> dict[str, Any]:
        """Return the pipeline's arguments as plain values without nulls: KFP has no null."""
        return self.model_dump(mode="json", exclude_none=True)


def load_batch_params(overrides: str, data: str = "", model: str = "") -> BatchParams:
    """Build the parameters from the command line alone: params.yaml names the images to train on, not to predict.

    Args:
        overrides: `get_data.field=value ...`.
        data: `get_data.source`.
        model: the model's address; empty: the champion.

    Raises:
        ParamsError: for an unknown name, a value of the wrong type, or a path that does not exist inside a container.
    """
    words = split_overrides(overrides)
    for word in words:
        if not word.startswith("get_data."):
            raise ParamsError(f"{word!r}: the batch pipeline has no such parameter, only those of get_data")
    values = apply_overrides({}, [*([f"get_data.source={data}"] if data else []), *words])
    if words and "source" not in values["get_data"]:
        raise ParamsError("batch: get_data.source is not set; expected a folder, or with get_data.repo a path in it")
    params = validate_values(BatchParams, values | ({"model": model} if model else {}), where="batch")
    if params.get_data:
        _check_reachable_from_container(params.get_data)
    return params


def _check_reachable_from_container(images: GetDataParams) -> None:
    if images.repo is not None:
        return
    if images.rev is not None:
        raise ParamsError(f"batch: get_data.rev={images.rev!r}: needs get_data.repo, which it is a revision of")
    if not Path(images.source).is_absolute():
        raise ParamsError(
            f"batch: get_data.source={images.source!r}: a path on this machine; expected an absolute one on a volume "
            "that the profile mounts into get_data, or get_data.repo"
        )
