"""From which probability on to predict the positive class: chosen for a stated goal on validation images."""

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from graft.core.errors import ParamsError
from graft.stats.curves import Flags, precision_recall
from graft.stats.metrics import Floats

Kind = Literal["max_f1", "precision", "recall", "cost"]
FORMS = "max_f1, precision>=0.9, recall>=0.95 or cost=1:5 (of a false alarm : of a miss)"


@dataclass(frozen=True)
class Goal:
    """The goal that a threshold should reach."""

    kind: Kind
    level: float = 0.0
    """Of precision or recall."""
    false_alarm: float = 1.0
    miss: float = 1.0

    @classmethod
    def parse(cls, text: str) -> "Goal":
        """Parse a goal from its text in the parameters.

        Raises:
            ParamsError: naming the valid forms.
        """
        plain = text.replace(" ", "")
        if plain == "max_f1":
            return cls("max_f1")
        if found := re.fullmatch(r"(precision|recall)>=(0?\.\d+|1(?:\.0*)?)", plain):
            return cls("precision" if found[1] == "precision" else "recall", float(found[2]))
        if found := re.fullmatch(r"cost=(\d+\.?\d*):(\d+\.?\d*)", plain):
            alarm, miss = float(found[1]), float(found[2])
            if alarm + miss > 0:
                return cls("cost", false_alarm=alarm, miss=miss)
        raise ParamsError(f"threshold goal {text!r}: expected {FORMS}")

    def __str__(self) -> str:
        """Return the goal as `parse` reads it."""
        if self.kind in ("precision", "recall"):
            return f"{self.kind}>={self.level:g}"
        return f"cost={self.false_alarm:g}:{self.miss:g}" if self.kind == "cost" else self.kind


@dataclass(frozen=True)
class Choice:
    """A threshold, and whether it reaches its goal on the images it was chosen on."""

    threshold: float
    reached: bool


def choose_threshold(positive: Flags, score: Floats, goal: Goal) -> Choice:
    """Return the threshold (an image is positive from it on) that serves the goal best on these images (n,).

    `precision>=p` maximises the recall at that precision; `recall>=r` maximises the precision at that recall. If no
    threshold reaches the goal, the result is the nearest one, with `reached` false. The threshold lies half-way to the
    next lower score, so that the next image can fall on either side.
    """
    if not positive.any() or positive.all():
        return Choice(0.5, reached=False)
    precision, recall, thresholds = precision_recall(positive, score)
    positives = positive.sum()
    hits = recall * positives
    selected = np.searchsorted(np.sort(-score), -thresholds, side="right")
    match goal.kind:
        case "max_f1":
            merit, reached = 2 * hits / (selected + positives), np.ones(len(hits), dtype=bool)
        case "cost":
            merit = -(goal.false_alarm * (selected - hits) + goal.miss * (positives - hits))
            reached = np.ones(len(hits), dtype=bool)
        case "precision":
            reached = precision >= goal.level
            merit = recall if reached.any() else precision
        case "recall":
            reached = recall >= goal.level
            merit = precision if reached.any() else recall
    best = int(np.argmax(np.where(reached, merit, -np.inf) if reached.any() else merit))
    below = score[score < thresholds[best]]
    lower = float(below.max()) if len(below) else 0.0
    return Choice((float(thresholds[best]) + lower) / 2, reached=bool(reached.any()))
