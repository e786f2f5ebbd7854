"""Which experiences a model has learnt from, in order: `history.json` in the bundle's folder."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from graft.core.artifact import read_spec
from graft.core.atomic import write_json
from graft.core.errors import ModelError

HISTORY_FILE = "history.json"


class Experience(BaseModel):
    """Images that were learnt together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    learnt_on: date
    images: int
    """Images that were learnt: for training and validation."""
    test_images: int
    classes: dict[str, int]
    """Learnt images of each class."""
    digest: str
    """Of the dataset."""
    method: str
    """What the head was learnt by."""
    known_before: int = 0
    """Images that had been learnt before, byte for byte, and were not learnt twice."""
    forgotten: int = 0
    """Images that were taken out of the memory since."""


class History(BaseModel):
    """Experiences of one model, oldest first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    experiences: tuple[Experience, ...] = ()

    def with_next(self, experience: Experience) -> "History":
        """Return the history with one more experience."""
        return History(experiences=(*self.experiences, experience))

    def save(self, folder: Path) -> None:
        """Write `history.json` into a bundle's folder, which exists."""
        write_json(folder / HISTORY_FILE, self.model_dump(mode="json"))

    @classmethod
    def load(cls, folder: Path) -> "History":
        """Read the history of a bundle.

        Raises:
            ModelError: if it has none.
        """
        return read_spec(Path(folder) / HISTORY_FILE, cls, content="history", step="train_head", error=ModelError)


def today() -> date:
    """Return today's date, the same in every time zone."""
    return datetime.now(UTC).date()
