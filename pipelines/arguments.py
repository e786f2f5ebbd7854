"""Read parameters from the command line and params.yaml, and convert them to KFP pipeline arguments."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from graft.core.boundary import machine_fault
from graft.core.errors import GraftError
from graft.core.installed import DISTRIBUTION, default_file
from graft.params.checking import validate_values
from graft.params.overrides import split_overrides
from graft.params.params import Params
from graft.params.run_settings import RunSettings, load_run

OWN = ("", "graft", "components", "pipelines")
Overrides = Annotated[str, typer.Option("--params", help="section.field=value ..., overriding params.yaml")]


def load_params(overrides: str, data: str = "") -> Params:
    """Read params.yaml of this folder, else Graft's own, and override it.

    Args:
        overrides: `section.field=value ...`.
        data: the user's own images, in place of `get_data`.

    Raises:
        ParamsError: for an invalid file, an unknown name or a value of the wrong type.
    """
    return load_run_params(overrides, data)[0]


def load_run_params(overrides: str, data: str = "") -> tuple[Params, RunSettings]:
    """Read the same with preset and budget, which `preset=quick budget=5m` sets; the preset is in the parameters.

    Raises:
        ParamsError: for an invalid file, an unknown name or a value of the wrong type.
    """
    chosen, settings = load_run(default_file("params.yaml"), split_overrides(overrides))
    if not data:
        return chosen, settings
    local = {"source": data, "repo": None, "rev": None}
    values = chosen.model_dump() | {"get_data": chosen.get_data.model_dump() | local}
    return validate_values(Params, values, where="DATA"), settings


def pipeline_arguments(params: Params) -> dict[str, dict[str, Any]]:
    """Return one dict per section, for the pipeline's parameter of the same name.

    A field that is null is left out: KFP has no null, and null is the default of every nullable field.
    """
    return {name: _without_null(params.section(name)) for name in type(params).model_fields}


def _without_null(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_null(value) if isinstance(value, dict) else value
        for name, value in values.items()
        if value is not None
    }


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Exit with a one-line message for errors that the user can fix."""
    try:
        yield
    except GraftError as error:
        raise SystemExit(str(error)) from error
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in OWN:
            raise
        raise SystemExit(
            f"this needs the package {package}, which is not installed: pip install '{DISTRIBUTION}[run]' brings all"
        ) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        from graft.runs.mlflow_store import store_fault  # late: most commands meet no store

        if fault := machine_fault(error) or store_fault(error):
            raise SystemExit(fault) from error
        raise
