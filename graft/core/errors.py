"""The errors that a user can fix.

Each message is one line that names the file or field, the value found and what was expected, so that a step can show
it without a traceback.
"""

from graft.core.credentials import mask_credentials

_SHOWN = str.maketrans({number: repr(chr(number))[1:-1] for number in (*range(32), 127)})
"""Control characters, which names in files and archives may hold, as they are written in Python."""


class GraftError(Exception):
    """An error in the input or the set-up, described in one clear line without passwords.

    `keep` names outputs of the failing step that are worth keeping because they explain the failure.
    """

    def __init__(self, message: str, *, keep: tuple[str, ...] = ()) -> None:
        super().__init__(mask_credentials(message).translate(_SHOWN))
        self.keep = keep


class ParamsError(GraftError):
    """A parameter that is unknown, has the wrong type or contradicts another."""


class DataError(GraftError):
    """Data that cannot be trained on: a missing file, a bad image, too few images of a class."""


class ModelError(GraftError):
    """A backbone, weights or bundle that is unknown, missing or does not fit."""


class DamagedError(DataError, ModelError):
    """A file that differs from what was written, of data or of a model."""


class RegistryError(GraftError):
    """A model version that is missing or may not be promoted."""


def error_text(error: Exception) -> str:
    """Return the error's message, with its type in front unless it is one that a user can fix."""
    return str(error) if isinstance(error, GraftError) else mask_credentials(f"{type(error).__name__}: {error}")
