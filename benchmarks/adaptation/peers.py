"""skada's estimators and scorers on the same features, in a Python of their own."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.adaptation.cases import Case
from benchmarks.peer_python import run_peer

PEER, SOURCE_ONLY = "skada: ", "skada: source only"


def skada(cases: Sequence[Case]) -> dict[str, list[float]]:
    """Return the accuracy on each case of every estimator, and of those that the scorers pick; none without skada."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cases.npz"
        arrays: dict[str, npt.NDArray[np.generic]] = {}
        for number, case in enumerate(cases):
            known = case.source.plain
            arrays |= {f"source/{number}": known.features, f"label/{number}": known.targets}
            arrays |= {f"target/{number}": case.plain, f"truth/{number}": case.targets}
        np.savez(file, **arrays)  # type: ignore[arg-type]
        found = json.loads(run_peer("skada", "benchmarks.peer_skada", str(file)) or "[]")
    if not found:
        return {}
    rows = {f"{PEER}{name}": [one["accuracy"][name] for one in found] for name in found[0]["accuracy"]}
    for scorer in found[0]["picked"]:
        rows[f"{PEER}picked by {scorer}"] = [one["accuracy"][one["picked"][scorer]] for one in found]
    return rows
