"""Runs side by side: who is ahead, what is shown and what is not, and in what they differ."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from graft.core.errors import DataError
from graft.evaluation.assessment import Sampling, SplitPredictions, assess
from graft.evaluation.leaderboard import Entrant, leaderboard, seconds
from graft.reports.leaderboard_page import headline, render_leaderboard, rows
from graft.runs.recorded_runs import RecordedRun
from tests.support.tasks import of_labels

HOSTILE = "<b>run</b>"


def entrant(
    name: str, right: np.ndarray, first: int = 0, classes: tuple[str, ...] = ("ant", "bee"), **params: str
) -> Entrant:
    """A run that answered images `first` and following, whose right answers are given."""
    count = len(right)
    targets = np.arange(count) % 2
    chosen = np.where(right, targets, 1 - targets)
    model = np.where(np.arange(2) == chosen[:, None], 0.9, 0.1)
    split = SplitPredictions(targets, model, model, np.arange(count))
    found = assess(
        split, split, targets, task=of_labels(*classes), dataset_digest="d" * 64, sampling=Sampling(bootstrap=20)
    )
    table = pd.DataFrame(
        {
            "id": [str(first + number) for number in range(count)],
            "group": [str(first + number) for number in range(count)],
            "label": np.array(classes)[targets],
            "predicted": np.array(classes)[chosen],
        }
    )
    started = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    run = RecordedRun(
        name, name, started, "sqlite://", params, {}, {"env.torch": "2"}, {}, {"train_head": 2.0, "fine_tune": 40}
    )
    return Entrant(run, found, table)


def answers(count: int, wrong: int, seed: int = 0) -> np.ndarray:
    right = np.ones(count, dtype=np.bool_)
    right[np.random.default_rng(seed).permutation(count)[:wrong]] = False
    return right


def test_runs_with_the_same_score_are_called_equal() -> None:
    pair = [entrant("one", answers(400, 20, 1)), entrant("other", answers(400, 20, 2))]
    assert headline(leaderboard(pair)) == "A and B are right equally often"
    assert headline(leaderboard([*pair, entrant("third", answers(400, 20, 3))])) == "All are right equally often"


def test_a_clear_difference_is_told_from_none() -> None:
    board = leaderboard(
        [
            entrant("worse", answers(400, 80, 1)),
            entrant("best", answers(400, 20, 2)),
            entrant("level", answers(400, 22, 3)),
        ]
    )
    assert [place.entrant.run.name for place in board.places] == ["best", "level", "worse"]
    assert board.places[0].behind is None
    level, worse = (place.behind for place in board.places[1:])
    assert level.difference.value == pytest.approx(2 / 400)
    assert level.difference.low < 0
    assert worse.difference.value == pytest.approx(60 / 400)
    assert worse.difference.low > 0
    assert headline(board) == "A is ahead; 1 of the 2 others is not shown to be worse"
    told = [row.behind for row in rows(board)]
    assert told[0] == "the best"
    assert told[1].startswith("no detectable difference: \N{MINUS SIGN}0.5 points")
    assert told[2].startswith("worse: \N{MINUS SIGN}15.0 points")


def test_equal_runs_are_called_different_in_at_most_the_stated_share_of_draws() -> None:
    clear = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        board = leaderboard([entrant(name, generator.random(300) < 0.9) for name in ("one", "other")])
        clear += board.places[1].behind.difference.low > 0
    assert clear <= 7, "95 % intervals: 3 expected, more than 7 in one of a hundred cases"


def test_only_images_that_both_have_seen_are_compared() -> None:
    apart = entrant("apart", answers(100, 5, 4), first=1000)
    half = entrant("half", answers(100, 40, 5), first=50)
    best = entrant("best", answers(100, 2, 6))
    board = leaderboard([apart, half, best])
    by_name = {place.entrant.run.name: place for place in board.places}
    assert (by_name["best"].shared, by_name["half"].shared, by_name["apart"].shared) == (100, 50, 0)
    assert by_name["apart"].behind is None
    told = {row.name: row.behind for row in rows(board)}
    assert "on the 50 test images of both" in told["half"]
    assert told["apart"] == "no test image in common with the best"
    assert headline(board) == "A is ahead; 1 of the 2 others is not shown to be worse"


def test_only_what_differs_is_listed() -> None:
    right = answers(40, 2)
    board = leaderboard([entrant("a", right, l2="1", seed="0"), entrant("b", right, l2="2", seed="0", mode="x")])
    assert {(one.kind, one.name): one.values for one in board.differences} == {
        ("parameter", "l2"): ("1", "2"),
        ("parameter", "mode"): ("", "x"),
    }
    assert seconds(board.places[0].entrant) == 42
    same = leaderboard([entrant("a", right), entrant("b", right)])
    assert same.differences == ()
    assert "In nothing that is recorded" in render_leaderboard(same)


def test_other_labels_cannot_be_compared() -> None:
    right = answers(40, 2)
    with pytest.raises(DataError, match="learnt different labels"):
        leaderboard([entrant("a", right), entrant("b", right, classes=("cat", "dog"))])


def test_names_are_shown_as_text() -> None:
    named = entrant(HOSTILE, answers(40, 2), l2=HOSTILE)
    board = leaderboard([named, replace(named, run=replace(named.run, id="b", params={}))])
    page = render_leaderboard(board)
    assert HOSTILE not in page
    assert "&lt;b&gt;run&lt;/b&gt;" in page
