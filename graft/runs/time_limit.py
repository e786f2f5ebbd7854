"""What the budget of a run leaves to one of its steps: set by the runner in the environment, read by the step.

The clock is not a parameter: it differs between runs that ask for the same, whose checkpoints and records must agree.
"""

import json
import os
from collections.abc import Sequence

_STAGE_SECONDS, _LEFT_OUT = "GRAFT_STAGE_SECONDS", "GRAFT_LEFT_OUT"


def environment(stage_seconds: float | None, left_out: Sequence[str]) -> dict[str, str]:
    """Return the variables that tell a step how long stages of fine-tuning may take, and what was left out before."""
    seconds = {} if stage_seconds is None else {_STAGE_SECONDS: f"{stage_seconds:.1f}"}
    return {**seconds, _LEFT_OUT: json.dumps(list(left_out))}


def stage_seconds() -> float | None:
    """Return the seconds that stages of fine-tuning may take; None if the run has no budget."""
    text = os.environ.get(_STAGE_SECONDS)
    return float(text) if text else None


def left_out() -> list[str]:
    """Return what the budget did not allow in this run so far, in words."""
    return list(json.loads(os.environ.get(_LEFT_OUT) or "[]"))
