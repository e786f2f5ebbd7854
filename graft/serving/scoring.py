"""A packed model as MLflow serves it: its scoring endpoints, and the same model to call from Python."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from graft.core.errors import DataError, RegistryError
from graft.runs.mlflow_store import quiet_mlflow
from graft.serving.limits import BusyError, TooLargeError
from graft.serving.server import IMAGE_COLUMN

ASGI = Callable[..., Awaitable[None]]
REFUSALS: Mapping[int, type[DataError]] = {400: DataError, 413: TooLargeError, 503: BusyError}
"""What a packed model refuses a request with, by status of HTTP; its package is a copy with classes of its own."""
PATHS = frozenset({"/invocations", "/ping", "/health", "/version"})
"""What MLflow's scoring server answers, apart from its pages about itself."""


@dataclass(frozen=True)
class Scoring:
    """One loaded model behind both doors, so that both give the same answers."""

    app: ASGI
    """MLflow's scoring server, which answers `PATHS`."""
    model: Any
    """The `PyFuncModel`."""

    def predict(self, images: Sequence[bytes]) -> pd.DataFrame:
        """Return the model's table for the contents of image files, as `server.Classifier.predict` does.

        Raises:
            DataError: if one is not an image; it names the row.
            TooLargeError: if they are too many, or too many bytes.
            BusyError: if large images waited for their turn in vain.
        """
        from mlflow.exceptions import MlflowException

        try:
            table: pd.DataFrame = self.model.predict(pd.DataFrame({IMAGE_COLUMN: list(images)}))
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            status: int = error.get_http_status_code()  # type: ignore[no-untyped-call]
            raise REFUSALS.get(status, DataError)(error.message) from error
        return table


def open_scoring(folder: Path) -> Scoring:
    """Load a packed model from its folder, and MLflow's scoring server for it.

    Raises:
        RegistryError: if it does not load.
    """
    quiet_mlflow()
    import mlflow.pyfunc
    from mlflow.pyfunc import scoring_server

    try:
        model = mlflow.pyfunc.load_model(str(folder))
    except Exception as error:  # any fault of its files or its code
        raise RegistryError(f"{folder}: the model does not load: {str(error).splitlines()[0]}") from error
    return Scoring(scoring_server.init(model), model)
