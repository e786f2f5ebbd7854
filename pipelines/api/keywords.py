"""Parameters by keyword: `train_head={"head": "linear"}` is `train_head.head=linear` of params.yaml."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from graft.core.errors import ParamsError
from graft.params.overrides import read_yaml
from graft.params.params import Params
from graft.params.run_settings import RunSettings, settled
from graft.params.section import Section
from graft.params.yaml_values import inside

Given = Mapping[str, Any] | Section | None
"""The fields of a section to set; those of a `Section` that were set when it was made."""
PARAMS_FILE = Path("params.yaml")


def asked_params(
    sections: Mapping[str, Given],
    settings: Mapping[str, str | None],
    data: str | Path | None = None,
    file: str | Path | None = None,
) -> tuple[Params, RunSettings]:
    """Return the parameters of a run: the file's, with what the keywords set.

    Args:
        sections: by name; None for a section that no keyword is about.
        settings: `preset` and `budget`; None: as in the file.
        data: folder, CSV manifest or archive of images; None: as in the file.
        file: of parameters; None: params.yaml of the working folder if there is one, else the defaults.

    Raises:
        ParamsError: if the file cannot be read, or names and values are not those of params.yaml.
    """
    path = PARAMS_FILE if file is None else Path(file)
    values = read_yaml(path) if file is not None or path.is_file() else {}
    changes: dict[str, Any] = {name: text for name, text in settings.items() if text is not None}
    changes |= {section: plain_fields(section, given) for section, given in sections.items() if given is not None}
    if data is not None:
        changes["get_data"] = {**changes.get("get_data", {}), "source": str(data), "repo": None, "rev": None}
    return settled(_merged(Params, values, changes), dict.fromkeys(_names(Params, changes), "keyword"), str(path))


def plain_fields(section: str, given: Mapping[str, Any] | Section) -> dict[str, Any]:
    """Return the fields that a keyword sets, as YAML could have said them.

    Raises:
        ParamsError: if it is neither a mapping nor a section.
    """
    if isinstance(given, Section):
        return given.model_dump(mode="json", exclude_unset=True)
    if isinstance(given, Mapping):
        return {str(name): _plain(value) for name, value in given.items()}
    raise ParamsError(f"keyword: {section}={given!r}: expected a dict of fields, such as {section}={{'seed': 1}}")


def _plain(value: Any) -> Any:
    """Return what YAML could have said: paths as text, mappings as dicts."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    return value


def _merged(kind: Any, values: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return values of a section, or of all, with changes over them; a field that is a mapping is replaced."""
    found = dict(values) if isinstance(values, Mapping) else {}
    for name, value in changes.items():
        below = inside(kind, name)
        found[name] = _merged(below, found.get(name), value) if _is_section(below, value) else value
    return found


def _names(kind: Any, changes: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in changes.items():
        below = inside(kind, name)
        if _is_section(below, value):
            yield from _names(below, value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _is_section(kind: Any, value: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section) and isinstance(value, Mapping)
