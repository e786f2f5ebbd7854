"""Prepare a submission: choose the pipeline, read its parameters and pin the version of the data."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from graft.core.errors import ParamsError
from graft.params.get_data import GetDataParams
from graft.params.params import Params
from pipelines.adapt_arguments import load_adapt_params
from pipelines.arguments import load_params
from pipelines.batch_arguments import BatchParams, load_batch_params
from pipelines.default_model import address_here, last_address
from pipelines.update_arguments import UpdateParams, load_update_params

AnyParams = Params | BatchParams | UpdateParams
"""The parameters of one of the pipelines."""


class PipelineName(StrEnum):
    """The available pipelines."""

    TRAINING = "training"
    BATCH = "batch"
    UPDATE = "update"
    ADAPT = "adapt"


Pipeline = Annotated[
    PipelineName,
    typer.Option("--pipeline", help="training makes a model, update adds images to it, batch predicts, adapt adapts"),
]
Data = Annotated[str, typer.Option(help="get_data.source, as a path or URL inside the cluster")]
Model = Annotated[
    str, typer.Option(help="for batch, update and adapt: models:/name@alias or /version, or a mounted folder")
]


def load_arguments(which: PipelineName, overrides: str, data: str = "", model: str = "") -> AnyParams:
    """Return the parameters of a pipeline from command line options.

    Raises:
        ParamsError: for an unknown name, a value of the wrong type, or an option that the pipeline does not have.
    """
    if which is PipelineName.BATCH:
        return load_batch_params(overrides, data, model or address_here())
    if which is PipelineName.UPDATE:
        return load_update_params(overrides, data, model or last_address())
    if which is PipelineName.ADAPT:
        return load_adapt_params(overrides, data, model or address_here())
    if model:
        raise ParamsError(
            f"--model {model}: the training pipeline makes its own model; batch, update and adapt take one"
        )
    return load_params(overrides, data)


def check_source(params: AnyParams) -> None:
    """Refuse images that only this machine has.

    Raises:
        ParamsError: for a relative path: a step's container has no folder to start from.
    """
    source = params.get_data
    if source is not None and source.repo is None and not Path(source.source).is_absolute():
        raise ParamsError(
            f"get_data.source={source.source}: is a path on this machine, which a cluster does not see; give the "
            "absolute path of a folder that the profile mounts (DATA=/data/photos), or data tracked by DVC"
        )


def is_default(params: AnyParams) -> bool:
    """Return whether nobody has chosen the images: they are chosen when a run starts."""
    return params.get_data == GetDataParams()


def pin_data(params: AnyParams) -> tuple[AnyParams, str | None]:
    """Return the parameters with the data's revision resolved to a commit, and the digest of that data.

    A branch may move before the run starts; a commit cannot. Only data tracked by DVC has a digest that is known
    without reading the data; for other data the second value is None.

    Raises:
        DataError: if the repository, the revision or the path does not exist.
    """
    source = params.get_data
    if source is None or source.repo is None:
        return params, None
    from graft.data.dvc_versions import data_version, resolve_revision

    commit = resolve_revision(source.repo, source.rev)
    get_data = source.model_copy(update={"rev": commit})
    return params.model_copy(update={"get_data": get_data}), data_version(source.repo, commit, source.source)
