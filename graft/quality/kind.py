"""What a kind of finding is: its title, its severity, and what to do about it."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["fail", "warn", "info", "ignore"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of finding."""

    title: str
    severity: Severity
    remedy: str
