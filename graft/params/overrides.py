"""The YAML of `params.yaml`, and overrides `section.field=value` of single values."""

import copy
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from graft.core.errors import ParamsError
from graft.params.yaml_values import Written, load_yaml, written

RUN_SETTINGS = ("preset", "budget")
"""Names beside the sections: they are said for a whole run, see `graft.params.run_settings`."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; its values become plain when `validate_values` knows their fields.

    Raises:
        ParamsError: if it is missing, broken, or not a mapping.
    """
    try:
        values = load_yaml(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ParamsError(f"{path}: no such file; it holds the parameters of every step") from error
    except RecursionError as error:
        raise ParamsError(f"{path}: not valid YAML (nested too deep)") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        found = values.text if isinstance(values, Written) else "nothing" if values is None else type(values).__name__
        raise ParamsError(f"{path}: expected one section per step, found {found}")
    return values


def apply_overrides(values: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return `values` with each override `section.field=value` applied (values are YAML).

    Raises:
        ParamsError: if an override does not have that form, or its value is not YAML.
    """
    changed = copy.deepcopy(values)
    for override in overrides:
        _apply(changed, override)
    return changed


def split_overrides(text: str) -> list[str]:
    """Return the words of a line of overrides, as a shell splits them.

    Raises:
        ParamsError: for a quote that is never closed.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ParamsError(
            f"PARAMS: {text!r}: {str(error).lower()}; close the quote, or put it in other quotes"
        ) from error


def override_name(override: str) -> str:
    """Return the dotted name of an override `section.field=value`."""
    return override.partition("=")[0].strip()


def _apply(values: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    section, dot, field = name.strip().partition(".")
    if equals and section in RUN_SETTINGS and not dot:
        values[section] = written(text, f"PARAMS: {override!r}: the value is not valid YAML")
        return
    if not (equals and dot and field):
        raise ParamsError(f"PARAMS: {override!r}: expected section.field=value, such as train_head.l2=0.1")
    branch = values
    *parents, leaf = [section, *field.split(".")]
    for place, parent in enumerate(parents, start=1):
        inner = branch.get(parent)
        if inner is None or (isinstance(inner, Written) and inner.is_null):
            inner = branch[parent] = {}
        if isinstance(inner, Written) and isinstance(inner.value, dict):
            inner = branch[parent] = inner.value
        if not isinstance(inner, dict):
            found = inner.text if isinstance(inner, Written) else inner
            raise ParamsError(
                f"PARAMS: {override!r}: {'.'.join(parents[:place])} is {found!r}, where a section of fields is expected"
            )
        branch = inner
    branch[leaf] = written(text, f"PARAMS: {override!r}: the value is not valid YAML")
