"""Tasks that answer for pixels: a class for each pixel, or the objects of an image with a mask each.

They have no logits of one row per image, so they are not a `Task`: their artifacts have types of their own, and steps
ask `pixel_task` which kind a folder is of. Whatever reads the artifacts of classifiers refuses theirs in `kinds`.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from graft.core.atomic import read_json
from graft.core.boundary import readable
from graft.core.errors import ParamsError

Kind = Literal["segment", "instances"]
PIXEL_KINDS: tuple[Kind, ...] = ("segment", "instances")
IGNORED = 255
"""Class index of pixels that count neither in training nor in a score, in every mask that Graft writes."""
_SPECS = ("dataset.json", "features.json", "bundle.json", "scores.json")


class PixelTask(BaseModel):
    """What is learnt about pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    labels: tuple[str, ...]
    """Names of the classes. For `segment` the first is the background, and a pixel's value is its place here; for
    `instances` they are the kinds of object."""

    @property
    def objects(self) -> tuple[str, ...]:
        """The classes without the background."""
        return self.labels[1:] if self.kind == "segment" else self.labels


def pixel_task(folder: Path) -> PixelTask | None:
    """Return the task of an artifact (dataset, features, bundle or evaluation); None if it classifies images."""
    for name in _SPECS:
        file = Path(folder) / name
        if file.is_file():
            found: Any = read_json(file)
            task = found.get("task") if isinstance(found, dict) else None
            if isinstance(task, dict) and task.get("kind") in PIXEL_KINDS:
                with readable(file, "run the step that wrote it again"):
                    return PixelTask.model_validate(task)
    return None


def refuse_others(section: str, params: BaseModel, used: Collection[str], kind: Kind) -> None:
    """Check that no parameter is set that has no meaning for a task about pixels.

    Raises:
        ParamsError: naming the first one.
    """
    for name, field in type(params).model_fields.items():
        value = getattr(params, name)
        if name not in used and value != field.get_default(call_default_factory=True):
            raise ParamsError(f"{section}.{name}={value!r}: task {kind} has no such choice; leave it at its default")
