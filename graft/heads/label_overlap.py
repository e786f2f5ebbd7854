"""Classes that the source classifier already knows: which of its labels they match, and how well it predicts them.

If a class is among the labels that the backbone was pretrained on (a sports car in ImageNet), the rows of the source's
output layer are a classifier before any training, and a starting point for the head.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from graft.backbones.feature_store import FeatureStore
from graft.backbones.pretrained_classifier import SourceClassifier, ZeroShot
from graft.core.errors import ModelError, ParamsError
from graft.heads.linear_probe import Linear
from graft.heads.protocols import Floats
from graft.params.train_head import TrainHeadParams
from graft.stats.confidence_intervals import proportion

_AT_ONCE = 4096
_PLURALS = (("ies", "y"), ("es", ""), ("s", ""))


@dataclass(frozen=True)
class Overlap:
    """Which classes the source knows, and by which outputs."""

    source: SourceClassifier
    outputs: Mapping[str, tuple[int, ...]]
    """The source's outputs for each class that it knows."""

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """The source's labels for each class that it knows."""
        return {name: tuple(self.source.labels[output] for output in found) for name, found in self.outputs.items()}


def find_overlap(store: FeatureStore, params: TrainHeadParams) -> Overlap | None:
    """Return which classes the source knows: those given in the parameters, and those with the name of a label.

    Raises:
        ParamsError: for a class or a label that does not exist; if the head should start from the source's labels and
            no class is known.
        ModelError: if labels are requested and the source has none that can be used.
    """
    try:
        source = store.source()
    except ModelError:
        if params.source_labels or params.init == "source_labels":
            raise
        return None
    outputs = match_classes(store.classes, source, params.source_labels)
    if not outputs and params.init == "source_labels":
        raise ParamsError(
            f"train_head.init='source_labels': the source has no label with the name of a class "
            f"({', '.join(store.classes[:5])}, ...); map them in train_head.source_labels, such as {{ants: ant}}"
        )
    return Overlap(source, outputs) if outputs else None


def match_classes(
    classes: Sequence[str], source: SourceClassifier, given: Mapping[str, str | Sequence[str]]
) -> dict[str, tuple[int, ...]]:
    """Return the source's outputs for every class that it knows, in the order of the classes.

    A class that is not in `given` is matched by name. Case does not matter, underscores count as spaces, and singular
    matches plural; but exactly one output must have the name, and no other class may match that output.

    Args:
        classes: of the data.
        source: has the labels.
        given: label, or labels, by class; an empty list for a class that the source does not know, whatever its name.

    Raises:
        ParamsError: for a class or a label that does not exist or is the name of several outputs.
    """
    by_name = _by_name(source)
    found: dict[str, tuple[int, ...]] = {}
    for name, labels in given.items():
        if name not in classes:
            raise ParamsError(f"train_head.source_labels.{name}: no class of the data{_nearest(name, classes)}")
        wanted = [labels] if isinstance(labels, str) else labels
        found[name] = tuple(_output(name, label, by_name, source) for label in wanted)
    by_form = _by_form(by_name)
    own = {name: _unambiguous(name, by_name, by_form) for name in classes if name not in given}
    claimed = [output for output in own.values() if output is not None]
    claimed += [output for outputs in found.values() for output in outputs]
    for name, output in own.items():
        if output is not None and claimed.count(output) == 1:
            found[name] = (output,)
    return {name: found[name] for name in classes if found.get(name)}


def zero_shot(store: FeatureStore, overlap: Overlap) -> list[ZeroShot]:
    """Measure the source's accuracy on training and validation images of the classes it knows, restricted to these.

    A class's probability is the sum of those of its labels. The result is empty if the source knows fewer than two
    classes, and leaves out splits without images.
    """
    if len(overlap.outputs) < 2:
        return []
    known = list(overlap.outputs)
    of_class = np.array([known.index(name) if name in known else -1 for name in store.classes])
    features, targets = store.tap(store.taps[-1]), of_class[store.targets()]
    groups = store.table["group"].astype(str).to_numpy()
    found = []
    for split in ("train", "val"):
        rows = store.indices(split)
        rows = rows[targets[rows] >= 0]
        parts = [rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE)]
        if parts:
            hits = np.concatenate([_scores(features[part], overlap).argmax(1) == targets[part] for part in parts])
            accuracy, low, high = proportion(hits, groups[rows])
            found.append(ZeroShot(split=split, images=len(rows), accuracy=accuracy, low=low, high=high))
    return found


def starting_rows(overlap: Overlap, classes: Sequence[str]) -> Linear:
    """Return the rows that a head on the last group starts from: for each class, the mean of its labels' rows.

    Rows are relative to the mean of all source rows. So zero, where the other classes start, is an average label and
    not one that is too likely or too rare everywhere.

    Args:
        overlap: which classes the source knows.
        classes: all classes, in the order of the head's outputs.
    """
    source = overlap.source
    weight = source.weight.astype(np.float64) - source.weight.mean(0, dtype=np.float64)
    bias = source.bias.astype(np.float64) - source.bias.mean(dtype=np.float64)
    rows, biases = np.zeros((len(classes), weight.shape[1])), np.zeros(len(classes))
    for position, name in enumerate(classes):
        if outputs := overlap.outputs.get(name):
            rows[position] = weight[list(outputs)].mean(0)
            # The log-sum-exp of several labels with similar logits is higher by the log of their number.
            biases[position] = bias[list(outputs)].mean() + np.log(len(outputs))
    return Linear.of_raw(rows, biases)


def _scores(features: np.ndarray[tuple[int, ...], np.dtype[np.float32]], overlap: Overlap) -> Floats:
    parts = [logsumexp(overlap.source.logits(features, outputs), axis=1) for outputs in overlap.outputs.values()]
    return np.stack(parts, axis=1)


def _by_name(source: SourceClassifier) -> dict[str, list[int]]:
    """Return the outputs by name, in normalised spelling."""
    found: dict[str, list[int]] = {}
    for output, (names, label) in enumerate(zip(source.names, source.labels, strict=True)):
        for name in dict.fromkeys(map(_plain, (*names, label, ", ".join(names)))):
            found.setdefault(name, []).append(output)
    return found


def _output(name: str, label: str, by_name: Mapping[str, list[int]], source: SourceClassifier) -> int:
    outputs = by_name.get(_plain(label), [])
    where = f"train_head.source_labels.{name}={label!r}"
    if not outputs:
        raise ParamsError(f"{where}: no label of the source{_nearest(_plain(label), by_name)}")
    if len(outputs) > 1:
        raise ParamsError(f"{where}: the name of several labels: {', '.join(source.labels[o] for o in outputs)}")
    return outputs[0]


def _by_form(by_name: Mapping[str, list[int]]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for name, outputs in by_name.items():
        for form in _forms(name):
            found.setdefault(form, set()).update(outputs)
    return found


def _unambiguous(name: str, by_name: Mapping[str, list[int]], by_form: Mapping[str, set[int]]) -> int | None:
    """Return the one output with this name; if there is none, the one whose name differs only in grammatical number."""
    outputs = by_name.get(_plain(name)) or set().union(*(by_form.get(form, set()) for form in _forms(_plain(name))))
    return next(iter(outputs)) if len(outputs) == 1 else None


def _plain(name: str) -> str:
    return re.sub(r"[\s_]+", " ", name).strip().casefold()


def _forms(name: str) -> set[str]:
    """Return a name and its possible singular forms."""
    return {name, *(name.removesuffix(end) + singular for end, singular in _PLURALS if name.endswith(end))}


def _nearest(name: str, known: Sequence[str] | Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, list(known), n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""
