"""The page of several runs: which is best and by how much, what each cost, and in what they differ."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import NamedTuple

from graft.evaluation.headline import percent, points
from graft.evaluation.leaderboard import Leaderboard, Place, seconds
from graft.evaluation.schema import Estimate
from graft.reports.page import script, stylesheet, template_environment
from graft.reports.svg_charts import interval_chart
from graft.reports.wording import METRIC_NAMES
from graft.stats.confidence_intervals import Interval
from graft.stats.resampled_metrics import UNBOUNDED

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
BESIDE = ("log_loss", "ece")
"""Metrics beside the one that ranks."""


class Row(NamedTuple):
    """What the page and the terminal show of a run."""

    letter: str
    name: str
    started: str
    score: str
    interval: str
    behind: str
    """What the best run is ahead by, in words."""
    beside: Mapping[str, str]
    cost: Mapping[str, str]


def rows(board: Leaderboard) -> list[Row]:
    """Return a row for each run, best first."""
    return [
        Row(
            letter,
            place.entrant.run.name,
            f"{place.entrant.run.started:%d %b %Y %H:%M}",
            shown(board.metric, place.score.value),
            _interval(board.metric, place.score),
            _behind(place),
            {
                METRIC_NAMES[name]: shown(name, place.entrant.evaluation.test[name].value)
                for name in BESIDE
                if name in place.entrant.evaluation.test
            },
            _cost(place),
        )
        for letter, place in zip(_letters(len(board.places)), board.places, strict=True)
    ]


def headline(board: Leaderboard) -> str:
    """Say in one sentence whether the best run, A, is shown to be the best."""
    others = board.places[1:]
    level = [place for place in others if place.behind is None or place.behind.difference.low <= 0]
    if not level:
        return "A is right more often than " + ("every other run" if len(others) > 1 else "B")
    if all(place.behind is not None and place.behind.difference.value == 0 for place in others):
        return f"{'All are' if len(others) > 1 else 'A and B are'} right equally often"
    if len(level) == len(others):
        return "A is ahead, but not shown to be better than " + ("any other run" if len(others) > 1 else "B")
    verb = "is" if len(level) == 1 else "are"
    return f"A is ahead; {len(level)} of the {len(others)} others {verb} not shown to be worse"


def render_leaderboard(board: Leaderboard, made_on: date | None = None) -> str:
    """Return the page as HTML; every text that comes from the runs is escaped.

    Args:
        board: the runs, of which there are at least two.
        made_on: date on the page; None: today.
    """
    code, shown_rows = script(), rows(board)
    named = METRIC_NAMES.get(board.metric, board.metric)
    return (
        template_environment("leaderboard_page")
        .get_template("leaderboard.html.j2")
        .render(
            headline=headline(board),
            rows=shown_rows,
            metric=named,
            columns={"beside": list(shown_rows[0].beside), "cost": list(shown_rows[0].cost)},
            differences=board.differences,
            figure=_chart(board, [row.letter for row in shown_rows], named),
            confidence=board.places[0].entrant.evaluation.confidence,
            made_on=f"{made_on or date.today():%d %B %Y}",
            style=stylesheet(),
            script=code.text,
            script_hash=code.csp_source,
        )
    )


def shown(metric: str, value: float | None) -> str:
    """Return a metric as text: rates as per cent, losses with three decimals."""
    if metric not in UNBOUNDED:
        return percent(value)
    return "n/a" if value is None else f"{value:.3f}"


def _interval(metric: str, score: Estimate) -> str:
    return "not defined" if score.low is None else f"{shown(metric, score.low)} to {shown(metric, score.high)}"


def _behind(place: Place) -> str:
    if place.behind is None:
        return "the best" if place.shared else "no test image in common with the best"
    found = place.behind.difference
    numbers = f"{points(0.0 - found.value)} points ({points(0.0 - found.high)} to {points(0.0 - found.low)})"
    apart = "" if place.shared == len(place.entrant.predictions) else f", on the {place.shared} test images of both"
    if found.low > 0:
        return f"worse: {numbers}{apart}"
    return f"no detectable difference: {numbers}{apart}; detectable: {100 * place.behind.detectable:.1f} points"


def _cost(place: Place) -> dict[str, str]:
    model = place.entrant.evaluation.efficiency.get("model")
    return {
        "Seconds": f"{seconds(place.entrant):,.0f}",
        "ms/image": f"{model.milliseconds:.1f}" if model else "n/a",
        "MB": f"{model.megabytes:.1f}" if model else "n/a",
    }


def _chart(board: Leaderboard, letters: Sequence[str], name: str) -> str:
    drawn = [
        (letter, _drawn(place.score), 1 if place is board.places[0] else 8)
        for letter, place in zip(letters, board.places, strict=True)
    ]
    percentage = board.metric not in UNBOUNDED
    return interval_chart(drawn, title=f"{name} of every run", x_label=name.lower(), percent=percentage)


def _drawn(score: Estimate) -> Interval:
    return Interval(*(float("nan") if one is None else one for one in (score.value, score.low, score.high)))


def _letters(count: int) -> list[str]:
    """Return short names: A to Z, then A2, B2 and so on."""
    rounds = [divmod(at, len(LETTERS)) for at in range(count)]
    return [LETTERS[place] + (str(number + 1) if number else "") for number, place in rounds]
