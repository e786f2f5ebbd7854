"""The parameters of the pipeline `adapt`: images, model, and how to adapt."""

import shlex
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from graft.core.errors import ParamsError
from graft.params.adapt import AdaptParams
from graft.params.checking import validate_values
from graft.params.overrides import apply_overrides, split_overrides
from pipelines.batch_arguments import BatchParams, load_batch_params

CHECK = "check="


class AdaptPipelineParams(BatchParams):
    """The arguments of `pipelines.adapt`."""

    adapt: AdaptParams = Field(AdaptParams(), description="method and limits")
    check: str = Field("", description="CSV file of labelled images, on a volume or inside the images' folder")

    def arguments(self) -> dict[str, Any]:
        """Return the pipeline's arguments as plain values without nulls: KFP has no null."""
        values = self.model_dump(mode="json", exclude_none=True)
        return {"adapt_params" if name == "adapt" else name: value for name, value in values.items()}


def adapt_params(overrides: Sequence[str]) -> AdaptParams:
    """Return the section from `adapt.field=value` words.

    Raises:
        ParamsError: for an unknown name or a value of the wrong type.
    """
    for word in overrides:
        if not word.startswith("adapt."):
            raise ParamsError(f"{word!r}: adapting has no such parameter, only those of adapt")
    return validate_values(AdaptParams, apply_overrides({}, overrides).get("adapt", {}), where="adapt")


def load_adapt_params(overrides: str, data: str = "", model: str = "") -> AdaptPipelineParams:
    """Build the parameters from the command line alone, as those of the batch pipeline.

    Args:
        overrides: `get_data.field=value ...`, `adapt.field=value ...` and `check=labelled.csv`.
        data: `get_data.source`.
        model: the model's address; empty: the champion.

    Raises:
        ParamsError: see `split_overrides`, `load_batch_params` and `adapt_params`.
    """
    words = split_overrides(overrides)
    own = [word for word in words if word.startswith("adapt.")]
    check = next((word.removeprefix(CHECK) for word in reversed(words) if word.startswith(CHECK)), "")
    others = shlex.join(word for word in words if not word.startswith(("adapt.", CHECK)))
    images = load_batch_params(others, data, model)
    return AdaptPipelineParams(get_data=images.get_data, model=images.model, adapt=adapt_params(own), check=check)
