"""The JSON file that describes an artifact: what the folder holds, and in which format version."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from graft.core.atomic import read_json
from graft.core.checksums import check_folder
from graft.core.errors import DataError, GraftError

Spec = TypeVar("Spec", bound=BaseModel)


def read_spec(file: Path, model: type[Spec], *, content: str, step: str, error: type[GraftError] = DataError) -> Spec:
    """Read the file that describes an artifact, after checking the checksums of its folder.

    Args:
        file: the file, in the artifact's folder.
        model: pydantic model of the file; the default of its field `version` is the format that is read.
        content: what the folder holds, for error messages.
        step: the step that writes it, for error messages.
        error: the exception type to raise.

    Raises:
        GraftError: of the type `error`, if the file is missing, has another version, or does not fit `model`; a plain
            GraftError if it is not JSON.
        DamagedError: if a file of the folder differs from what was written.
    """
    if not file.is_file():
        raise error(f"{file.parent}: no {content} here ({file.name} is missing); run {step}")
    values: Any = read_json(file)
    expected = model.model_fields["version"].default
    written = values.get("version") if isinstance(values, dict) else None
    if written != expected:
        raise error(f"{file}: {content} of format {written!r}, expected {expected}; run {step} again")
    try:
        found = model.model_validate(values)
    except ValidationError as fault:
        first = fault.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise error(f"{file}: {field}: {first['msg']}; run {step} again") from fault
    check_folder(file.parent)
    return found
