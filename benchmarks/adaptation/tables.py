"""The tables of docs/adaptation.md."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from benchmarks.adaptation.cost import FEW, MANY, Cost
from benchmarks.adaptation.methods import BOTH, GUARDED, START, WITH_IMAGES, Outcome, Unseen
from benchmarks.adaptation.peers import SOURCE_ONLY

Regimes = Mapping[str, Sequence[Outcome]]


def methods(outcomes: Sequence[Outcome], peers: Mapping[str, Sequence[float]]) -> list[str]:
    """Return a line for each method; a peer is compared with its own model of the source."""
    names = [outcome.name for outcome in outcomes]
    starts = [outcome.accuracy[START] for outcome in outcomes]
    lines = [
        "| 12 pairs of pacs_mini | mean accuracy | worst pair | its change | pairs worse |",
        "|---|---|---|---|---|",
    ]
    for method in outcomes[0].accuracy:
        lines.append(_method(method, names, [outcome.accuracy[method] for outcome in outcomes], starts))
    for name, accuracies in peers.items():
        lines.append(_method(name, names, accuracies, peers[SOURCE_ONLY]))
    return lines


def _method(name: str, pairs: Sequence[str], accuracies: Sequence[float], starts: Sequence[float]) -> str:
    changes = np.subtract(accuracies, starts)
    worst = "" if name in (START, SOURCE_ONLY) else pairs[int(changes.argmin())]
    change = f"{changes.min():+.3f}" if worst else ""
    return f"| {name} | {np.mean(accuracies):.3f} | {worst} | {change} | {int((changes < 0).sum())} |"


def regimes(measured: Regimes) -> list[str]:
    """Return a line for each kind of target."""
    lines = [
        "| target | cases | as it was | `both` | worst change | with guards | adapted | worst change |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, outcomes in measured.items():
        means = [np.mean([found.accuracy[method] for found in outcomes]) for method in (START, BOTH, GUARDED)]
        free, guarded = (min(found.change(method) for found in outcomes) for method in (BOTH, GUARDED))
        lines.append(
            f"| {name} | {len(outcomes)} | {means[0]:.3f} | {means[1]:.3f} | {free:+.3f} | **{means[2]:.3f}** | "
            f"{sum(found.kept for found in outcomes)} | {guarded:+.3f} |"
        )
    return lines


def unseen(found: Mapping[str, Sequence[Unseen]]) -> list[str]:
    """Return a line for each set of pairs, scored on images that the adaptation did not see."""
    lines = ["| adapted to one half, scored on the other | cases | as it was | `both` | worst change |"]
    lines.append("|---|---|---|---|---|")
    for name, cases in found.items():
        before, after = np.mean(cases, axis=0)
        worst = min(one.after - one.before for one in cases)
        lines.append(f"| {name} | {len(cases)} | {before:.3f} | {after:.3f} | {worst:+.3f} |")
    return lines


def cases(outcomes: Iterable[Outcome]) -> list[str]:
    """Return a line for each case."""
    lines = ["| case | as it was | `both` | the views agree on | adapted |", "|---|---|---|---|---|"]
    for found in outcomes:
        before, after = found.accuracy[START], found.accuracy[BOTH]
        lines.append(
            f"| {found.name} | {before:.3f} | {after:.3f} | {found.agreement:.3f} | {'yes' if found.kept else 'no'} |"
        )
    return lines


def sentences(measured: Regimes, seeds: Sequence[str], digits: str, cost: Cost) -> list[str]:
    """Return what the tables do not show: seeds, training images at hand, the estimate's error and cost."""
    whole = measured[seeds[0]]
    means = [float(np.mean([found.accuracy[BOTH] for found in measured[seed]])) for seed in seeds]
    free, with_images = (np.mean([found.accuracy[method] for found in whole]) for method in (BOTH, WITH_IMAGES))
    errors = [np.mean([abs(found.agreement - found.accuracy[BOTH]) for found in measured[name]]) for name in
              (seeds[0], digits)]  # fmt: skip
    return [
        f"- {len(seeds)} seeds of the 12 pairs: median {np.median(means):.3f}, {min(means):.3f} to {max(means):.3f}.",
        f"- No training image is needed: {free:.3f}. Heads fitted again to the training images and the pseudo-labelled "
        f"ones together would reach {with_images:.3f}.",
        f"- Agreement as an estimate of accuracy: mean absolute error {errors[0]:.3f} on the 12 pairs, "
        f"{errors[1]:.3f} on digits.",
        f"- {FEW} images of 224 pixels take {cost.seconds:.0f} CPU seconds on one thread; the process holds "
        f"{cost.few:.0f} MB at most, and {cost.many:.0f} MB for {MANY} images.",
        f"- An answer of `standardise` takes {cost.latency['standardise']:.2f} times as long as before, one of `both` "
        f"{cost.latency['both']:.2f} times, measured in turn.",
    ]
