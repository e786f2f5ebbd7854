"""How much of the backbone to reuse: a probe after every group, compared on held-out images.

The deepest features are not always the best: they are specialised for the source task (Yosinski et al. 2014). The curve
over groups shows where to cut, and whether a head on several groups (in the spirit of Head2Toe, Evci et al. 2022) beats
one. Groups are compared by ridge probes, which are solved in closed form; a head on several groups must also win as it
will be used, and only the heads on the chosen groups are fitted. Only training images are used; of many, a sample.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from graft.core.cpu import available_cores
from graft.core.errors import ParamsError
from graft.core.progress import progress
from graft.heads.cross_validation import CrossValidated
from graft.heads.head_inputs import HeadInputs, Scored
from graft.heads.kind_selection import choose_kind, describe_gain
from graft.heads.lbfgs import single_threaded_blas
from graft.heads.linear_probe import Linear
from graft.heads.protocols import Kind
from graft.heads.ridge import RidgeProbe
from graft.stats.confidence_intervals import wilson
from graft.stats.paired_difference import paired_difference

MULTI_TAPS = (2, 3, 5)
"""How many of the best taps a multi-tap head may read."""


@dataclass(frozen=True)
class HeadChoice:
    """The chosen taps and kind of head, and what they were compared with."""

    taps: tuple[str, ...]
    """Groups the head reads; the backbone is cut after the last one."""
    cross_validated: CrossValidated
    """Of the chosen head."""
    curve: Mapping[str, RidgeProbe]
    """Every group's own ridge probe, in forward order."""
    reason: str
    kind: Kind = "linear"
    start: Linear | None = None
    """The rows that the head is pulled to, on the last of `taps`."""
    heads: Mapping[Kind, CrossValidated] = field(default_factory=dict)
    """The kinds of head that were fitted and compared on `taps`, if there were several: on at most
    `kind_selection.MOST_COMPARED` images."""


def choose_head(inputs: HeadInputs, reuse_depth: str, head: str) -> HeadChoice:
    """Choose the groups that the head reads and its kind.

    Args:
        inputs: features and folds of the training images.
        reuse_depth: `auto`, `last` or a group's name.
        head: `auto`, `linear` (one group), `multi_tap` (a linear one on several), `mlp` or `cosine`.

    Raises:
        ParamsError: for a depth that is no group, or a head that cannot start from the source classifier's rows.
    """
    names = inputs.store.taps
    if reuse_depth not in ("auto", "last", *names):
        raise ParamsError(f"train_head.reuse_depth={reuse_depth!r}: expected auto, last or one of {', '.join(names)}")
    known = inputs.task.head_kinds
    if head not in ("auto", *known):
        raise ParamsError(f"train_head.head={head!r}: the task {inputs.task.name!r} is learnt by {', '.join(known)}")
    if inputs.start is not None:
        _check_start(names, reuse_depth, head)
    curve = _probe_all(inputs, [(name,) for name in names], "probe after each group")
    single = {name: curve[(name,)] for name in names}
    if inputs.start is not None:
        return _pulled(inputs, single, inputs.start)
    linear = _choose_linear(inputs, single, reuse_depth, head)
    found = choose_kind(inputs, linear.taps, linear.cross_validated, head)
    excluded = inputs.excluded()
    reason = f"{linear.reason}{found.reason}{f'; {excluded}' if excluded else ''}"
    return HeadChoice(linear.taps, found.cross_validated, single, reason, found.kind, heads=found.heads)


def _choose_linear(inputs: HeadInputs, curve: Mapping[str, RidgeProbe], reuse_depth: str, head: str) -> HeadChoice:
    """Choose the groups that the head reads, and cross-validate a linear head on them."""
    names = inputs.store.taps
    if reuse_depth == "auto":
        tap, reason = shallowest_equivalent_tap(curve, inputs.groups[inputs.judged])
        below = names
    else:
        tap, reason = (names[-1] if reuse_depth == "last" else reuse_depth), f"asked for: {reuse_depth}"
        below = names[: names.index(tap) + 1]
    if head == "linear" or len(below) < 2 or (head != "multi_tap" and reuse_depth != "auto"):
        return HeadChoice((tap,), inputs.cross_validate([tap]), curve, reason)
    ranked = sorted(below, key=lambda name: curve[name].loss.mean())
    sets = [tuple(name for name in names if name in ranked[:many]) for many in MULTI_TAPS if many <= len(ranked)]
    tried = _probe_all(inputs, sets, "probe several groups together")
    taps = min(tried, key=lambda taps: tried[taps].loss.mean())
    best = ranked[0]
    gain, error = inputs.compare(curve[best], tried[taps])
    comparison = (
        f"{len(taps)} groups together: log loss {tried[taps].loss.mean():.3f} against {curve[best].loss.mean():.3f} "
        f"of {best}, the best single one"
    )
    if head != "multi_tap" and gain <= error:
        return HeadChoice((tap,), inputs.cross_validate([tap]), curve, f"{reason}; {comparison}: no clear gain")
    comparison = f"{comparison}, {describe_gain(gain, error)}"
    together = inputs.cross_validate(taps)
    if head == "multi_tap" or inputs.is_large(taps):
        return HeadChoice(taps, together, curve, comparison)
    alone = inputs.cross_validate([best])
    gain, error = inputs.compare(alone, together)
    fitted = f"as logistic regression {together.loss.mean():.3f} against {alone.loss.mean():.3f}"
    if gain > error:
        return HeadChoice(taps, together, curve, f"{comparison}; {fitted}, {describe_gain(gain, error)}")
    shallower = alone if tap == best else inputs.cross_validate([tap])
    return HeadChoice((tap,), shallower, curve, f"{reason}; {comparison}; {fitted}: no clear gain")


def _probe_all(inputs: HeadInputs, sets: Sequence[tuple[str, ...]], what: str) -> dict[tuple[str, ...], RidgeProbe]:
    """Probe several sets of groups, one per core."""
    with single_threaded_blas(), ThreadPoolExecutor(min(len(sets), available_cores())) as pool:
        found = pool.map(inputs.probe, sets)
        return dict(zip(sets, progress(found, what, total=len(sets), unit="probes"), strict=True))


def _check_start(names: Sequence[str], reuse_depth: str, head: str) -> None:
    """Refuse choices that cannot start from the source classifier's rows: they are linear, and read the last group."""
    if reuse_depth not in ("auto", "last", names[-1]):
        raise ParamsError(
            f"train_head.reuse_depth={reuse_depth!r}: with init='source_labels' expected auto, last or {names[-1]}, "
            "the group that the source's output layer reads"
        )
    if head not in ("auto", "linear"):
        raise ParamsError(
            f"train_head.head={head!r}: with init='source_labels' expected auto or linear, as the source's layer is"
        )


def _pulled(inputs: HeadInputs, curve: Mapping[str, RidgeProbe], start: Linear) -> HeadChoice:
    """Choose the last group and a head that is pulled to the source's rows."""
    last = inputs.store.taps[-1]
    plain, found = inputs.cross_validate([last]), inputs.cross_validate([last], start=start)
    gain, error = inputs.compare(plain, found)
    reason = (
        f"started from the source's output layer, which reads {last}: log loss {found.loss.mean():.3f} against "
        f"{plain.loss.mean():.3f} without, {describe_gain(gain, error)}"
    )
    return HeadChoice((last,), found, curve, reason, start=start)


def shallowest_equivalent_tap(curve: Mapping[str, Scored], groups: npt.NDArray[np.object_]) -> tuple[str, str]:
    """Return the shallowest group of the backbone within one standard error of the best, and the reason.

    The standard error is that of the paired difference in log loss: both probes predict the same images, so it is far
    smaller than that of either loss.

    Args:
        curve: by group, in forward order.
        groups: the images' own groups, (n,): the error is counted between them.
    """
    best = min(curve, key=lambda tap: curve[tap].loss.mean())
    for tap, found in curve.items():
        worse, error = paired_difference(found.loss, curve[best].loss, groups)
        if tap == best or worse <= error:
            if tap == best:
                return tap, f"{tap} has the least held-out log loss ({found.loss.mean():.3f})"
            return tap, f"{tap} is within one standard error ({error:.3f}) of the best, {best}, and shallower"
    raise AssertionError("the best is within its own standard error")


def accuracy_interval(found: Scored) -> tuple[float, float, float]:
    """Return held-out accuracy with its 95 % Wilson interval."""
    _, low, high = wilson(int(found.correct.sum()), len(found.correct))
    return float(found.correct.mean()), low, high
