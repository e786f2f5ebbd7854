"""python -m benchmarks.adaptation: measure, and write the tables into docs/adaptation.md."""

import re

import torch

from benchmarks.adaptation import tables
from benchmarks.adaptation.cases import REGIMES, pairs, unseen_halves
from benchmarks.adaptation.cost import measure_cost
from benchmarks.adaptation.domains import pacs
from benchmarks.adaptation.methods import measure, measure_unseen
from benchmarks.adaptation.peers import skada
from benchmarks.data import ROOT

PAGE = ROOT / "docs" / "adaptation.md"
BLOCK = re.compile(r"(?<=<!-- measured -->\n).*?(?=<!-- end -->)", re.DOTALL)
PAIRS, DIGITS = "12 pairs", "digits: MNIST ↔ UCI"
SEEDS = (PAIRS, "12 pairs, seed 1", "12 pairs, seed 2")


def main() -> None:
    """Measure everything, one case after the other."""
    torch.set_num_threads(1)
    measured = {}
    for name, cases in REGIMES.items():
        measured[name] = [measure(case, others=name == PAIRS) for case in cases()]
        print("\n".join(tables.regimes({name: measured[name]})[2:]), flush=True)
    unseen = [measure_unseen(halves) for halves in unseen_halves()]
    whole = measured[PAIRS]
    parts = [
        tables.methods(whole, skada(list(pairs(pacs())))),
        tables.regimes(measured),
        tables.unseen({"12 pairs of pacs_mini": unseen[: len(whole)], DIGITS: unseen[len(whole) :]}),
        tables.cases([*whole, *measured[DIGITS]]),
        tables.sentences(measured, SEEDS, DIGITS, measure_cost()),
    ]
    text = "\n\n".join("\n".join(lines) for lines in parts)
    print(text)
    PAGE.write_text(BLOCK.sub(lambda _: f"\n{text}\n\n", PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
