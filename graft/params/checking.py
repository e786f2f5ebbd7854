"""Values become a section, or one line that names each wrong field, its value, its origin and what was expected."""

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from graft.core.credentials import mask_credentials
from graft.core.errors import ParamsError
from graft.params.yaml_values import field_names, inside, members, settle

M = TypeVar("M", bound=BaseModel)
_SHOWN = 120
"""Characters of a wrong value that its message shows."""
_NO_ORIGINS: Mapping[str, str] = MappingProxyType({})


def validate_values(
    model: type[M], values: Mapping[str, Any], where: str, origins: Mapping[str, str] = _NO_ORIGINS
) -> M:
    """Build `model` from `values`, turning pydantic's errors into one clear line that names every field.

    Args:
        model: what to build; the types of its fields decide what values of `read_yaml` and `apply_overrides` are.
        values: by name.
        where: they are from.
        origins: of the fields that are from elsewhere, by dotted name.

    Raises:
        ParamsError: the message names each field, where its value is from, the value and what was expected.
    """
    try:
        return model.model_validate(settle(model, values))
    except ValidationError as error:
        faults: dict[tuple[str, str], list[str]] = {}
        for fault in error.errors():
            place, name, text = _fault(model, fault)
            known = (origin for own, origin in origins.items() if f"{place}.".startswith(f"{own}."))
            inner = (origin for own, origin in origins.items() if own.startswith(f"{place}.") and _made_by(own, values))
            faults.setdefault((next(known, next(inner, where)), name), []).append(text)
        lines: dict[str, list[str]] = {}
        for (origin, name), texts in faults.items():
            # A field of a union type reports one error for each type.
            lines.setdefault(origin, []).append(f"{name} {' or '.join(texts)}")
        raise ParamsError("; ".join(f"{origin}: {'; '.join(said)}" for origin, said in lines.items())) from error


def _made_by(name: str, values: Mapping[str, Any]) -> bool:
    """Return whether what a field is in is there only because the field was set: it is alone in its section or field.

    So an unknown section may be the fault of an override of its field.
    """
    *parents, _ = name.split(".")
    for parent in parents:
        inner = values.get(parent)
        if not isinstance(inner, Mapping):
            return False
        values = inner
    return len(values) == 1


def _fault(model: type[BaseModel], fault: Any) -> tuple[str, str, str]:
    """Return the field's dotted name, the same with its value, and what is wrong with it."""
    location: list[str] = []
    kind: Any = model
    known: list[str] = []
    for part in fault["loc"]:
        parent, kind = kind, inside(kind, part)
        if kind is None and fault["type"] != "extra_forbidden":
            break  # here pydantic names the members of a union, which are not part of the user's path
        location.append(str(part))
        known = [field for member in members(parent) for field in field_names(member)]
        if kind is None:
            break
    name = ".".join(location)
    if fault["type"] == "extra_forbidden":
        close = difflib.get_close_matches(location[-1].lower(), known, n=1) or _elsewhere(model, location)
        meant = " or ".join(map(repr, close))
        return (
            name,
            f"unknown parameter {name!r}:",
            f"did you mean {meant}?" if close else f"known here: {', '.join(known)}",
        )
    shown, value = repr(fault["input"]), fault["input"]
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
    text = fault["msg"][0].lower() + fault["msg"][1:]
    if fault["type"] in ("tuple_type", "list_type") and isinstance(value, str):
        text = f"expected a list, such as [{value}]"
    return name, mask_credentials(f"{name}={shown}:"), text


def _elsewhere(model: type[BaseModel], location: list[str]) -> list[str]:
    """Return the dotted names of fields in other sections with the same name as the unknown field at `location`."""
    if len(location) != 2:
        return []
    sections = {name: inside(model, name) for name in field_names(model)}
    return [f"{name}.{location[1]}" for name, section in sections.items() if location[1] in field_names(section)]
