"""Which code checks the data of which task."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from graft.params.validate_data import ValidateDataParams
from graft.quality.validation import Validation


class Validator(Protocol):
    """Examines and checks a folder."""

    def __call__(self, root: Path, params: ValidateDataParams, say: Callable[[str], None] = ...) -> Validation:
        """Return what is known about `root`."""


def validator(task: str) -> Validator:
    """Return the code that checks data of `validate_data.task`."""
    if task == "segment":
        from graft.pixel_quality.mask_validation import validate_masks

        return validate_masks
    if task == "instances":
        from graft.pixel_quality.object_validation import validate_objects

        return validate_objects
    from graft.quality.validation import validate

    return validate
