"""What is settled before a pipeline leaves this machine: which one, with what, on which version of the data."""

from enum import StrEnum
from typing import Annotated

import typer

from graft.core.errors import ParamsError
from graft.runs.params import Params
from pipelines.arguments import load_params
from pipelines.batch_arguments import BatchParams, load_batch_params


class Which(StrEnum):
    """The pipelines there are."""

    TRAINING = "training"
    BATCH = "batch"


Pipeline = Annotated[Which, typer.Option("--pipeline", help="from images to a model, or from images to answers")]
Data = Annotated[str, typer.Option(help="get_data.source, as the cluster sees it")]
Model = Annotated[str, typer.Option(help="of the batch pipeline: models:/name@alias or /version, or a mounted folder")]


def chosen(which: Which, overrides: str, data: str = "", model: str = "") -> Params | BatchParams:
    """Return the parameters of a pipeline from what a command line says.

    Raises:
        ParamsError: for an unknown name, an ill-typed value, or what the pipeline does not take.
    """
    if which is Which.BATCH:
        return load_batch_params(overrides, data, model)
    if model:
        raise ParamsError(f"--model {model}: the training pipeline makes its model; --pipeline batch takes one")
    return load_params(overrides, data)


def pinned(params: Params | BatchParams) -> tuple[Params | BatchParams, str | None]:
    """Return the parameters with the data's revision as a commit, and the digest of that data.

    A branch may move between now and the run, a commit cannot. Only data that DVC tracks has a digest that is known
    without reading it; for other data the second value is None.

    Raises:
        DataError: if the repository, the revision or the path is not to be had.
    """
    source = params.get_data
    if source is None or source.repo is None:
        return params, None
    from graft.data.dvc_versions import data_version, resolve_revision

    commit = resolve_revision(source.repo, source.rev)
    get_data = source.model_copy(update={"rev": commit})
    return params.model_copy(update={"get_data": get_data}), data_version(source.repo, commit, source.source)
