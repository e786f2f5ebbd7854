"""A packed model of any task, loaded the way a server loads it and asked as a client asks it."""

import base64
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from graft.core.errors import RegistryError
from graft.runs.mlflow_store import quiet_mlflow
from graft.serving.latency import Latency, measure_latency
from graft.serving.server import IMAGE_COLUMN


class LoadedModel:
    """A packed model; it is loaded at its first prediction."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def predict(self, images: Sequence[bytes]) -> pd.DataFrame:
        """Return the table of predictions of the served model.

        Raises:
            RegistryError: if it does not load or predict.
        """
        encoded = [base64.b64encode(image).decode() for image in images]
        try:
            table: pd.DataFrame = self._model.predict(pd.DataFrame({IMAGE_COLUMN: encoded}))
        except RegistryError:
            raise
        except Exception as error:  # any fault of files, code or images
            raise RegistryError(f"the registered model does not predict: {_line(error)}") from error
        return table

    def latency(self, images: Sequence[bytes]) -> Latency:
        """Return the time of a single image, independent of other load on the machine; see `latency`."""
        return measure_latency(lambda image: self.predict([image]), images)

    @cached_property
    def _model(self) -> Any:
        # Loaded lazily: callers that only need the labels do not wait.
        quiet_mlflow()
        import mlflow.pyfunc

        try:
            return mlflow.pyfunc.load_model(str(self._folder))
        except Exception as error:
            raise RegistryError(f"the registered model does not load: {_line(error)}") from error


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
