"""The one way into the registry: enter as a challenger, answer from the registry as before, then be decided on.

A version that does not load or answers differently stays a challenger and is marked as broken. Whatever happens in
between, the champion is not touched before `decide`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from graft.core.errors import RegistryError
from graft.serving.packaging import PackedPredictor, check_same_predictions
from graft.serving.registered_version import Version
from graft.serving.registry import Registry


class Decision(NamedTuple):
    """What becomes of a challenger."""

    verdict: Literal["promoted", "refused", "adapted", "forgot"]
    reasons: tuple[str, ...]
    """Why it was not promoted, or what it is there for."""


class SmokeTest(NamedTuple):
    """Images, and what the model that is registered answers to them."""

    images: Sequence[bytes]
    expected: npt.NDArray[np.float64]
    """Probabilities, (n, classes)."""
    of_further: Sequence[npt.NDArray[np.float64]] = ()
    """The same of the tasks after the first."""


class Provenance(NamedTuple):
    """The run that registers a version."""

    run_id: str | None = None
    experiment: str | None = None
    """Id of that run's experiment."""


@dataclass(frozen=True)
class Entry:
    """A version that entered the registry."""

    version: Version
    """With the tags and aliases that the decision left it."""
    decision: Decision
    difference: float
    """Largest difference of a probability between the registered model and the given answers."""
    milliseconds: float
    """Time of one image through the registered model, independent of other load on the machine."""


def enter_registry(
    registry: Registry,
    packed: Path,
    tags: Mapping[str, str],
    description: str,
    smoke: SmokeTest,
    decide: Callable[[Version, float], Decision],
    provenance: Provenance = Provenance(),  # noqa: B008 (immutable)
) -> Entry:
    """Register a packed model as a challenger, check its answers, and apply a decision.

    Args:
        registry: the registry to use.
        packed: the model, as `pack` wrote it.
        tags: of the version.
        description: of the version, one line.
        smoke: what it has to answer.
        decide: gets the version and the milliseconds of one image; moves the champion itself where it permits that.
        provenance: the run that registers it.

    Raises:
        RegistryError: if the registered model does not load or predicts differently; it then stays a challenger.
    """
    version = registry.register(packed, tags, description, provenance.experiment, provenance.run_id)
    try:
        with registry.downloaded(version) as folder:
            predictor = PackedPredictor(folder)
            difference = check_same_predictions(predictor, smoke.images, smoke.expected, smoke.of_further)
            latency = predictor.latency(smoke.images)
    except RegistryError as error:
        registry.set_tags(version.number, {"verdict": "broken", "reason.1": str(error)})
        raise
    decision = decide(version, latency.milliseconds)
    verdict = {"verdict": decision.verdict, **latency.tags}
    numbered = {f"reason.{number}": reason for number, reason in enumerate(decision.reasons, 1)}
    registry.set_tags(version.number, verdict | numbered)
    return Entry(registry.version(version.number), decision, difference, latency.milliseconds)
