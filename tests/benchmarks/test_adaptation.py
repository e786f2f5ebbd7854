"""The tables about other domains say what was measured."""

from benchmarks.adaptation import tables
from benchmarks.adaptation.cost import Cost
from benchmarks.adaptation.methods import BOTH, GUARDED, START, WITH_IMAGES, Outcome, Unseen

OUTCOMES = [
    Outcome("day → night", 100, {START: 0.5, BOTH: 0.9, GUARDED: 0.9, WITH_IMAGES: 0.91}, True, 0.95),
    Outcome("night → day", 100, {START: 0.7, BOTH: 0.6, GUARDED: 0.7, WITH_IMAGES: 0.6}, False, 0.7),
]


def test_a_method_is_judged_by_its_worst_pair() -> None:
    lines = tables.methods(OUTCOMES, {"skada: source only": [0.4, 0.6], "skada: OT": [0.3, 0.8]})
    assert f"| {START} | 0.600 |  |  | 0 |" in lines
    assert f"| {BOTH} | 0.750 | night → day | -0.100 | 1 |" in lines
    assert f"| {GUARDED} | 0.800 | night → day | +0.000 | 0 |" in lines
    assert lines[-1] == "| skada: OT | 0.550 | day → night | -0.100 | 1 |"
    assert len(tables.methods(OUTCOMES, {})) == 2 + 4


def test_guards_undo_what_is_worse() -> None:
    assert tables.regimes({"12 pairs": OUTCOMES})[-1] == (
        "| 12 pairs | 2 | 0.600 | 0.750 | -0.100 | **0.800** | 1 | +0.000 |"
    )
    assert tables.cases(OUTCOMES)[-1] == "| night → day | 0.700 | 0.600 | 0.700 | no |"
    assert tables.unseen({"digits": [Unseen(0.2, 0.4), Unseen(0.4, 0.3)]})[-1] == (
        "| digits | 2 | 0.300 | 0.350 | -0.100 |"
    )


def test_the_rest_is_told_in_sentences() -> None:
    other = [outcome._replace(accuracy=outcome.accuracy | {BOTH: 0.8}) for outcome in OUTCOMES]
    cost = Cost(21.4, 900.0, 930.0, {"standardise": 1.004, "both": 1.98})
    found = tables.sentences({"a": OUTCOMES, "b": other, "d": other}, ("a", "b"), "d", cost)
    assert "median 0.775, 0.750 to 0.800" in found[0]
    assert "0.750" in found[1]
    assert "0.755" in found[1]
    assert "mean absolute error 0.075 on the 12 pairs, 0.125 on digits" in found[2]
    assert "21 CPU seconds" in found[3]
    assert "1.00 times" in found[4]
    assert "1.98 times" in found[4]
