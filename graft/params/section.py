"""The base of every section: immutable, and without unknown names, NaN, infinity and passwords."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from graft.core.credentials import holds_credentials
from graft.params.yaml_values import Written, field_names


class Section(BaseModel):
    """Base of every section: immutable; unknown names are an error, and so are NaN, infinity and passwords in URLs.

    Every number has a lowest and a highest value; a test looks for fields without.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _without_credentials(cls, value: Any, field: ValidationInfo) -> Any:
        if field_names(cls.model_fields[field.field_name or ""].annotation):
            return value  # a section, which looks at its own fields
        if any(holds_credentials(text) for text in _texts(value)):
            # Parameters are recorded with every run in plain text.
            raise PydanticCustomError(
                "credentials",
                "holds credentials, which every run would record; use ssh, .netrc, git's credential helper or the "
                "environment",
            )
        return value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Written):
        yield value.text
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(name)
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
