"""A packed model of masks or objects with MLflow's interface: a table of photos in, a table of answers out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import mlflow.pyfunc
import pandas as pd

from graft.core.errors import DataError
from graft.serving.limits import Admission, BusyError, TooLargeError
from graft.serving.mlflow_model import image_contents, refusal


class Server(Protocol):
    """Answers for the bytes of photos."""

    @classmethod
    def load(cls, folder: Path) -> "Server":
        """Read the files of a packed model."""

    def predict(self, photos: Sequence[bytes]) -> pd.DataFrame:
        """Return one row per photo."""


class PackedPixels(mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined, unused-ignore]
    """The server's model as an MLflow model; its input is a column `image` of bytes or base64 text."""

    def __init__(self, server: type[Server]) -> None:
        self.server = server
        self.admission = Admission()

    def load_context(self, context: Any) -> None:
        """Open the packed files; called once by the server."""
        self.loaded = self.server.load(Path(context.artifacts["network"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Answer for a table with a column `image`.

        Raises:
            MlflowException: INVALID_PARAMETER_VALUE (HTTP 400), naming the row that cannot be read; HTTP 413 if the
                request is too large, 503 if the server is busy.
        """
        try:
            photos = image_contents(model_input)
            self.admission.check(photos)
            return self.loaded.predict(photos)
        except TooLargeError as error:
            raise refusal(str(error), 413) from error
        except BusyError as error:
            raise refusal(str(error), 503) from error
        except DataError as error:
            raise refusal(str(error)) from error
