"""The errors a user can mend.

Each text is one line that names the file or field, the value found and what was expected, so that a step can show it
alone, without a traceback.
"""


class GraftError(Exception):
    """A fault in the input or the set-up, told in one clear line.

    `keep` names outputs of the failing step that are worth keeping because they explain the failure.
    """

    def __init__(self, message: str, *, keep: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.keep = keep


class ParamsError(GraftError):
    """An unknown, ill-typed or contradictory parameter."""


class DataError(GraftError):
    """Data that cannot be trained on: a missing file, a bad image, too few images of a class."""


class ModelError(GraftError):
    """A backbone, weights or bundle that is unknown, missing or does not fit."""


class RegistryError(GraftError):
    """A model version that is missing or may not be promoted."""


def cause(error: Exception) -> str:
    """Return what went wrong, with the kind of error where it is not one that a user can mend."""
    return str(error) if isinstance(error, GraftError) else f"{type(error).__name__}: {error}"
