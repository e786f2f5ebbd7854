"""Sources, and targets without labels: every pair of domains, with all classes and without some, or with no shift."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from benchmarks.adaptation.domains import (
    DIGIT_TAPS,
    Array,
    Domain,
    Source,
    SourceView,
    digits,
    normed_again,
    pacs,
)
from graft.heads.protocols import Ints


class Case(NamedTuple):
    """A source, and a target without labels."""

    name: str
    source: Source
    plain: Array
    normed: Array
    targets: Ints
    """Nobody sees them but the table."""


class Halves(NamedTuple):
    """A target of which the adaptation sees one half."""

    seen: Case
    unseen: Case
    """The other half, under the statistics of the seen one."""


def pairs(domains: Mapping[str, Domain], subset: str = "full") -> Iterator[Case]:
    """Yield every domain as source of every other one, of which only a subset is there."""
    for name, one in domains.items():
        for other, target in domains.items():
            if other != name:
                rows = target.rows[subset]
                yield _case(f"{name} → {other}", one.source, target, rows, subset)


def digit_pairs(subset: str = "full") -> Iterator[Case]:
    """Yield MNIST and UCI as source of each other, cut where the source's own cross-validation says."""
    for name, other in (("mnist", "uci"), ("uci", "mnist")):
        domains = digits(min(DIGIT_TAPS, key=lambda tap: digits(tap)[name].held_out_loss))
        yield next(pairs({one: domains[one] for one in (name, other)}, subset))


def three_to_one(domains: Mapping[str, Domain]) -> Iterator[Case]:
    """Yield three domains together as the source of the fourth."""
    for other, target in domains.items():
        rest = [domain for name, domain in domains.items() if name != other]
        source = Source.of(
            np.concatenate([domain.plain for domain in rest]),
            np.concatenate([domain.normed["full"] for domain in rest]),
            np.concatenate([domain.targets for domain in rest]),
        )
        yield _case(f"others → {other}", source, target, target.rows["full"], "full")


def halves(domains: Mapping[str, Domain]) -> Iterator[Case]:
    """Yield one half of a domain as the source of its other half: there is no shift."""
    for name, domain in domains.items():
        one = domain.rows["half"]
        source = Source.of(domain.plain[one], domain.normed["half"][one], domain.targets[one])
        yield _case(f"{name}, halves", source, domain, domain.rows["rest"], "rest")


def seeded(seed: int) -> Iterator[Case]:
    """Yield the pairs of pacs_mini with BatchNorm statistics from batches in another order."""
    normed = {
        name: SourceView(normed_again(name, seed), domain.targets, domain.source.plain.task)
        for name, domain in pacs().items()
    }
    for case in pairs(pacs()):
        source, target = (normed[name] for name in case.name.split(" → "))
        yield case._replace(source=replace(case.source, normed=source), normed=target.features)


def unseen_halves() -> Iterator[Halves]:
    """Yield every pair of pacs_mini and of the digits, with the half that the adaptation does not see apart."""
    for case in pairs(pacs()):
        yield _halved(case, pacs()[case.name.split(" → ")[1]])
    for case in digit_pairs():
        tap = next(tap for tap in DIGIT_TAPS if digits(tap)["mnist"].plain.shape[1] == case.plain.shape[1])
        yield _halved(case, digits(tap)[case.name.split(" → ")[1]])


REGIMES: Mapping[str, Callable[[], Iterator[Case]]] = {
    "12 pairs": lambda: pairs(pacs()),
    "12 pairs, seed 1": partial(seeded, 1),
    "12 pairs, seed 2": partial(seeded, 2),
    "long tail": lambda: pairs(pacs(), "longtail"),
    "5 of the 7 classes": lambda: pairs(pacs(), "five"),
    "3 of the 7 classes": lambda: pairs(pacs(), "three"),
    "three domains → the fourth": lambda: three_to_one(pacs()),
    "no shift: halves of one domain": lambda: halves(pacs()),
    "digits: MNIST ↔ UCI": digit_pairs,
    "digits, long tail": lambda: digit_pairs("longtail"),
    "digits, 5 of the 10 classes": lambda: digit_pairs("five"),
}


def _case(name: str, source: Source, target: Domain, rows: Ints, statistics: str) -> Case:
    return Case(name, source, target.plain[rows], target.normed[statistics][rows], target.targets[rows])


def _halved(case: Case, target: Domain) -> Halves:
    seen, unseen = (_case(case.name, case.source, target, target.rows[half], "half") for half in ("half", "rest"))
    return Halves(seen, unseen)
