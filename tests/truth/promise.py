"""A promise of a page, and the simulation that shows how often it held."""

from collections.abc import Callable
from dataclasses import dataclass

from scipy.stats import binom

CERTAIN = 0.999
"""A true promise fails its test about once in a thousand changes of the seed."""


@dataclass(frozen=True)
class Promise:
    """One row of the table."""

    says: str
    """The promise, as the page words it."""
    tried: str
    """What was simulated."""
    least: float
    most: float
    """The simulated rate lies between them, if the promise is true."""
    rate: Callable[[], float]
    """Runs the simulation; the same at every call."""


def around(nominal: float, draws: int, upward: float = 0.0) -> tuple[float, float]:
    """Return the rates that a true `nominal` one shows in nearly all sets of `draws`; `upward` may be added."""
    low, high = binom.interval(CERTAIN, draws, nominal)
    return low / draws, min(1.0, high / draws + upward)


def at_most(nominal: float, draws: int) -> tuple[float, float]:
    """Return the rates of something that happens at most this often, in nearly all sets of `draws`."""
    return 0.0, binom.ppf(CERTAIN, draws, nominal) / draws


def at_least(nominal: float, draws: int) -> tuple[float, float]:
    """Return the rates of something that happens at least this often, in nearly all sets of `draws`."""
    return binom.ppf(1 - CERTAIN, draws, nominal) / draws, 1.0
