"""What the user decides about a server: who may ask, how much at once, where corrections go."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from graft.serving.limits import Limits

TOKEN_VARIABLE, ORIGINS_VARIABLE = "GRAFT_SERVE_TOKEN", "GRAFT_SERVE_ORIGINS"
"""Environment variables; a token on the command line could be read by every user of the machine."""


@dataclass(frozen=True)
class Settings:
    """The settings of a server."""

    token: str = ""
    """What a request must carry as `Authorization: Bearer ...`; empty: everybody who reaches the server may ask."""
    origins: tuple[str, ...] = ()
    """Other web sites whose pages may ask, such as `https://example.org`; `*`: all."""
    limits: Limits = field(default_factory=Limits)
    """What one request may ask for."""
    corrections: Path = Path("outputs/corrections")
    """Where corrected pictures and their queue are kept."""
    run: Path = Path("outputs")
    """Output folder of the run whose training images may be shown beside a picture."""


def from_environment(environment: Mapping[str, str] = os.environ) -> tuple[str, tuple[str, ...]]:
    """Return the token and the origins (separated by commas) that the environment names."""
    origins = environment.get(ORIGINS_VARIABLE, "").split(",")
    return environment.get(TOKEN_VARIABLE, "").strip(), tuple(one.strip() for one in origins if one.strip())
