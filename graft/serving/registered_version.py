"""One version of a registered model."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Version:
    """One registered model."""

    name: str
    number: int
    aliases: tuple[str, ...]
    tags: Mapping[str, str] = field(repr=False)
    run_id: str | None = None
    created: int = 0
    """Milliseconds since 1970."""

    @property
    def uri(self) -> str:
        """Return its address for MLflow."""
        return f"models:/{self.name}/{self.number}"
