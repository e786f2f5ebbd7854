"""What is said for a whole run instead of one step: a preset and a budget of time.

They stand beside the sections: `preset: quick` and `budget: 5m` in params.yaml, or `PARAMS="preset=quick budget=5m"`.
A preset is a named set of parameters; it sets those that have their default value, so what a user has chosen stays.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field

from graft.params.checking import validate_values
from graft.params.overrides import RUN_SETTINGS, apply_overrides, override_name, read_yaml
from graft.params.params import Params
from graft.params.section import Section

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
Preset = Literal["quick", "balanced", "best"]
PRESETS: Mapping[Preset, Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "quick": {
            "train_head": {"head": "linear"},
            "fine_tune": {"enabled": False},
            "evaluate": {"learning_curve": False, "explain": False, "random_init": False},
        },
        "balanced": {},
        "best": {
            "extract_features": {"backbone": "auto", "prefer": "accuracy"},
            "fine_tune": {"budget": "none"},
        },
    }
)
"""quick: frozen features, a linear head, and a report without what needs further training. balanced: the defaults.
best: the largest backbone that cross-validation does not speak against, and fine-tuning for as long as it gains."""


class RunSettings(Section):
    """What is said for a whole run."""

    preset: Preset = Field("balanced", description="quick | balanced (the defaults) | best")
    budget: str = Field(
        "none",
        pattern=r"^(none|\d+(\.\d+)?[smh])$",
        description="most time for a run on this machine: 90s | 5m | 1h | none",
    )

    @property
    def seconds(self) -> float | None:
        """The budget in seconds; None if there is none."""
        return None if self.budget == "none" else float(self.budget[:-1]) * SECONDS[self.budget[-1]]

    def as_tags(self) -> dict[str, str]:
        """Return what the pipeline's run in MLflow is tagged with."""
        return {"graft.preset": self.preset, "graft.budget": self.budget}


def load_run(path: Path, overrides: Iterable[str] = ()) -> tuple[Params, RunSettings]:
    """Read parameters and settings of a run from a file, with `section.field=value` and `preset=quick` over them.

    Raises:
        ParamsError: for a missing or broken file, an unknown name or a value of the wrong type.
    """
    overrides = list(overrides)
    origins = dict.fromkeys(map(override_name, overrides), "PARAMS")
    return settled(apply_overrides(read_yaml(path), overrides), origins, str(path))


def settled(values: Mapping[str, Any], origins: Mapping[str, str], where: str) -> tuple[Params, RunSettings]:
    """Return the parameters that values amount to under their preset.

    The preset sets what has its default value, unless that was said on the command line or by keyword.

    Args:
        values: of all sections, with preset and budget beside them.
        origins: of the values that are not from the file, by dotted name.
        where: the others are from.

    Raises:
        ParamsError: the message names the field, where its value is from, and what was expected.
    """
    of_run = {name: values[name] for name in RUN_SETTINGS if name in values}
    sections = {name: value for name, value in values.items() if name not in RUN_SETTINGS}
    settings = validate_values(RunSettings, of_run, where, origins)
    params = validate_values(Params, sections, where, origins)
    changed = {
        section: getattr(params, section).model_copy(
            update={
                name: value
                for name, value in fields.items()
                if f"{section}.{name}" not in origins and _is_default(params, section, name)
            }
        )
        for section, fields in PRESETS[settings.preset].items()
    }
    return params.model_copy(update=changed), settings


def _is_default(params: Params, section: str, name: str) -> bool:
    return bool(getattr(getattr(params, section), name) == getattr(getattr(Params(), section), name))
