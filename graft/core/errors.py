"""The errors that a user can fix.

Each message is one line that names the file or field, the value found and what was expected, so that a step can show
it without a traceback.
"""


class GraftError(Exception):
    """An error in the input or the set-up, described in one clear line.

    `keep` names outputs of the failing step that are worth keeping because they explain the failure.
    """

    def __init__(self, message: str, *, keep: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.keep = keep


class ParamsError(GraftError):
    """A parameter that is unknown, has the wrong type or contradicts another."""


class DataError(GraftError):
    """Data that cannot be trained on: a missing file, a bad image, too few images of a class."""


class ModelError(GraftError):
    """A backbone, weights or bundle that is unknown, missing or does not fit."""


class RegistryError(GraftError):
    """A model version that is missing or may not be promoted."""


def error_text(error: Exception) -> str:
    """Return the error's message, with its type in front unless it is one that a user can fix."""
    return str(error) if isinstance(error, GraftError) else f"{type(error).__name__}: {error}"
