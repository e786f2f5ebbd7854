"""The queue of suspected label errors holds most of the wrong labels, and mostly wrong ones."""

import numpy as np
import pandas as pd

from graft.quality.label_errors import find_label_errors
from graft.stats.metrics import softmax
from tests.truth.promise import Promise
from tests.truth.simulated import labelled

DRAWS = 20
_CLASSES = ("ant", "bee", "cow")


def _queue() -> tuple[float, float]:
    """Return the precision and the recall of the queue, over all draws."""
    generator = np.random.default_rng(0)
    listed = found = wrong = 0
    for _ in range(DRAWS):
        logits, targets = labelled(600, 3, generator, 8.0)
        flipped = generator.random(600) < 0.1
        given = np.where(flipped, (targets + generator.integers(1, 3, 600)) % 3, targets)
        table = pd.DataFrame({"path": np.arange(600).astype(str), "label": np.array(_CLASSES, dtype=object)[given]})
        queue = find_label_errors(table, softmax(logits), _CLASSES)
        listed, wrong = listed + len(queue), wrong + int(flipped.sum())
        found += int(flipped[queue["row"].to_numpy()].sum())
    return found / listed, found / wrong


PROMISES = (
    Promise(
        "of the suspected label errors, wrong: 70 %",
        f"{DRAWS} sets of 600 images, 10 % of the labels wrong",
        0.7,
        1.0,
        lambda: _queue()[0],
    ),
    Promise("of the wrong labels, suspected: 70 %", "the same", 0.7, 1.0, lambda: _queue()[1]),
)
