"""Which model a command takes if none is named: that of the last run in this folder."""

from pathlib import Path

from graft.core.errors import GraftError
from graft.data.source import data_name, registered_name
from graft.params.params import Params
from pipelines.local.last_run import last_model
from pipelines.local.progress import print_progress

PARAMS_FILE = "params.yaml"


def default_address() -> str:
    """Return the address of the last run's model, and say which it is; without a run, the champion of params.yaml.

    Raises:
        GraftError: if there is neither in this folder.
    """
    return last_address() or f"models:/{_name_of_params()}@champion"


def address_here() -> str:
    """Return the same, but empty if this folder has neither a run nor params.yaml."""
    return default_address() if last_model() or Path(PARAMS_FILE).is_file() else ""


def last_address() -> str:
    """Return the address of the last run's model, and say which it is; empty without a run."""
    model = last_model()
    if model is None:
        return ""
    print_progress(f"model: {model}")
    return model.address


def default_name() -> str:
    """Return the registered name of the last run in this folder; without a run, that of params.yaml."""
    model = last_model()
    return model.name if model else _name_of_params()


def _name_of_params() -> str:
    if not Path(PARAMS_FILE).is_file():
        raise GraftError(
            "no model: no run has succeeded in this folder; graft run FOLDER makes one, or name one (graft --help)"
        )
    params = Params.load()
    return registered_name(params.register_model.name, data_name(params.get_data.source, params.get_data.repo))
