"""YAML whose values are what their field says: `no`, `007`, `12:30` and `12e4567` are text in a field of text.

YAML decides by the look of a value, so a revision of digits becomes a number and a label `no` false. Here every value
keeps its text until `settle` knows the type of its field.
"""

import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from graft.core.errors import ParamsError

_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_TYPED = ("bool", "int", "float", "null", "timestamp")


@dataclass(frozen=True)
class Written:
    """A value as it is written, and as YAML reads it."""

    text: str
    value: Any
    fault: str = ""
    """Why YAML cannot read it, if so."""

    @property
    def is_null(self) -> bool:
        """Whether it stands for nothing."""
        return self.text.strip().lower() in ("", "~", "null")


class _Loader(yaml.SafeLoader):
    """A loader that keeps the text of what it reads as a number, a date, true, false or null, and of plain keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Read a mapping, whose names must differ."""
        self.flatten_mapping(node)
        found: dict[Any, Any] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else self.construct_object(key, deep=True)
            if isinstance(name, list | dict):
                raise yaml.constructor.ConstructorError(None, None, "a name is not a single value", key.start_mark)
            if name in found:
                raise yaml.constructor.ConstructorError(None, None, f"{name!r} appears twice", key.start_mark)
            found[name] = self.construct_object(value, deep=True)
        return found


def _written(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Written:
    if node.tag == _INT:
        digits = node.value.lstrip("+-")
        if ":" in digits:
            return Written(node.value, node.value)
        if digits.isdigit():  # 010 is ten
            return Written(node.value, int(node.value))
    kind = node.tag.rpartition(":")[2]
    value = getattr(yaml.constructor.SafeConstructor, f"construct_yaml_{kind}")(loader, node)
    return Written(node.value, value)


def _text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str | Written:
    """Return text; YAML 1.1 reads `1e-3` as text, which it is only in a field of text."""
    text = str(loader.construct_scalar(node))
    if node.style is None:
        try:
            return Written(text, float(text))
        except ValueError:
            pass
    return text


for _kind in _TYPED:
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _written)
_Loader.add_constructor("tag:yaml.org,2002:str", _text)


def load_yaml(text: str) -> Any:
    """Read YAML, with `Written` in place of what its look would make a number, a date, true, false or null.

    Raises:
        yaml.YAMLError: if it is not YAML, or a mapping has a name twice.
    """
    return yaml.load(text, Loader=_Loader)


def written(text: str, fault: str) -> Written:
    """Return a value given on its own; a text need not be YAML.

    Args:
        text: the value.
        fault: the message if a field that is not text needs it and it is not YAML.
    """
    try:
        return Written(text, load_yaml(text))
    except (yaml.YAMLError, ValueError):
        return Written(text, None, fault)


def settle(kind: Any, value: Any) -> Any:
    """Return plain values, each as the field of type `kind` that it is for needs it.

    Raises:
        ParamsError: if a value is not YAML and its field is not text.
    """
    if isinstance(value, Written):
        return _settle_written(kind, value)
    if isinstance(value, Mapping):
        return {str(name): settle(inside(kind, str(name)), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [settle(inside(kind, place), inner) for place, inner in enumerate(value)]
    if value is None and any(_is_model(member) for member in members(kind)) and type(None) not in members(kind):
        return {}  # a section whose fields are all commented out
    return value


def _settle_written(kind: Any, value: Written) -> Any:
    accepted, text = members(kind), value.text.strip()
    if text in _literals(accepted):
        return text
    if value.is_null and (type(None) in accepted or str not in accepted):
        return settle(kind, None)
    if str in accepted:
        if isinstance(value.value, list | dict) and not {*accepted} <= {str, type(None)}:
            return settle(kind, value.value)
        return value.value if isinstance(value.value, str) else text
    if value.fault:
        raise ParamsError(value.fault)
    return settle(kind, value.value)


def _literals(accepted: tuple[Any, ...]) -> set[Any]:
    return {value for member in accepted if get_origin(member) is Literal for value in get_args(member)}


def inside(kind: Any, part: str | int) -> Any:
    """Return the type of the value at `part` of a value of type `kind`; None if there is none."""
    for member in members(kind):
        if _is_model(member) and part in member.model_fields:
            return member.model_fields[part].annotation
        arguments = get_args(member)
        if get_origin(member) is dict:
            return arguments[1]
        if get_origin(member) in (tuple, list) and isinstance(part, int):
            if get_origin(member) is list or arguments[-1] is Ellipsis:
                return arguments[0]
            return arguments[part] if part < len(arguments) else None
    return None


def members(kind: Any) -> tuple[Any, ...]:
    """Return the types that a union consists of, or the type itself."""
    if get_origin(kind) is Annotated:
        return members(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(inner for member in get_args(kind) for inner in members(member))
    return (kind,)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def field_names(kind: Any) -> list[str]:
    """Return the names of the fields of a section; none of any other type."""
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []
