"""The packed model with MLflow's interface: a table of images in, a table of predictions out."""

import base64
import binascii
import sys
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from graft.core.errors import DataError
from graft.serving.limits import BusyError, TooLargeError
from graft.serving.server import IMAGE_COLUMN, Classifier


class PackedModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined, unused-ignore]
    """The server's classifier as an MLflow model; its input is a column `image` of bytes or base64 text."""

    def load_context(self, context: Any) -> None:
        """Open the packed files; called once by the server."""
        self.classifier = Classifier.load(Path(context.artifacts["network"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Classify a table with a column `image`.

        Raises:
            MlflowException: INVALID_PARAMETER_VALUE (HTTP 400), naming the row that cannot be read; HTTP 413 if the
                request is too large, 503 if the server is busy.
        """
        try:
            return self.classifier.predict(image_contents(model_input))
        except TooLargeError as error:
            raise refusal(str(error), 413) from error
        except BusyError as error:
            raise refusal(str(error), 503) from error
        except DataError as error:
            raise refusal(str(error), 400) from error


class _Refusal(MlflowException):  # type: ignore[misc, unused-ignore]
    """An answer with a status of HTTP that MLflow has no error code for."""

    status = 400

    def get_http_status_code(self) -> int:
        """Return the status of the answer."""
        return self.status


def refusal(text: str, status: int = 400) -> MlflowException:
    """Return what both MLflow's server and MLServer, KServe's runtime, answer with this status and text.

    MLServer knows its own errors only, and answers any other with 500. It is here if it is what runs the model.
    """
    running = sys.modules.get("mlserver.errors")
    bases = (_Refusal,) if running is None else (_Refusal, running.MLServerError)
    kind = type("Refusal", bases, {"status": status})
    refusal: MlflowException = kind(text, error_code=INVALID_PARAMETER_VALUE)
    vars(refusal)["status_code"] = status  # MLServer's, which its constructor sets to 400
    return refusal


def image_contents(table: pd.DataFrame) -> list[bytes]:
    """Return the image files in a request as bytes.

    Args:
        table: with a column `image` (or a single column) of bytes or base64 text, with or without `data:...;base64,`.

    Raises:
        DataError: if the column is missing, or a value is neither bytes nor base64 text; it names the row.
    """
    if IMAGE_COLUMN not in table.columns:
        found = ", ".join(map(str, table.columns)) or "none"
        raise DataError(f"expected a column {IMAGE_COLUMN!r} of base64 text or bytes; found columns: {found}")
    return [_content(value, row) for row, value in enumerate(table[IMAGE_COLUMN])]


def _content(value: Any, row: int) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if not isinstance(value, str):
        raise DataError(f"row {row}: expected base64 text or bytes, found {type(value).__name__}")
    text = value.partition(";base64,")[2] if value.startswith("data:") else value
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(f"row {row}: not valid base64 ({error})") from error
