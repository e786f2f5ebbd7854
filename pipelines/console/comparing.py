"""The command `graft report`: where the report of the last run is, or several runs side by side."""

import tempfile
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from graft.core.errors import GraftError
from pipelines.arguments import one_line_errors

Runs = Annotated[
    list[str] | None,
    typer.Argument(
        help="runs to compare: output folders, MLflow run ids or names, models:/name/3; none: the last run here",
        show_default=False,
    ),
]


def report(
    runs: Runs = None,
    out: Annotated[Path, typer.Option(help="page of the comparison")] = Path("comparison.html"),
    open_it: Annotated[bool, typer.Option("--open", help="open it in the browser")] = False,
) -> None:
    """Show where the report of the last run in this folder is, or compare several runs."""
    with one_line_errors():
        page = _compare(runs, out) if runs else _last_report()
        print(page)
        if open_it:
            webbrowser.open(page.absolute().as_uri())


def _last_report() -> Path:
    from pipelines.local.last_run import last_model

    model = last_model()
    page = Path(model.out) / "report.html" if model else Path("outputs/report.html")
    if not page.is_file():
        raise GraftError(f"{page}: no report here yet; graft run FOLDER writes one")
    return page


def _compare(references: list[str], out: Path) -> Path:
    if len(references) < 2:
        raise GraftError("one run alone cannot be compared: name two or more")
    if out.suffix != ".html":
        raise GraftError(f"--out {out}: the page is an .html file")
    from graft.core.atomic import write_text
    from graft.evaluation.leaderboard import Entrant, leaderboard
    from graft.reports.leaderboard_page import headline, render_leaderboard, rows
    from graft.runs.recorded_runs import find_run

    found = {run.id: run for run in map(find_run, references)}
    if len(found) < 2:
        raise GraftError("these are one and the same run: name two or more")
    with tempfile.TemporaryDirectory(prefix="graft-report-") as folder:
        places = [Path(folder) / run for run in found]
        for place in places:
            place.mkdir()
        board = leaderboard([Entrant.read(run, place) for run, place in zip(found.values(), places, strict=True)])
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, render_leaderboard(board))
    print(headline(board))
    for row in rows(board):
        print(f"{row.letter}  {row.score} ({row.interval})  {row.name}  {row.behind}")
    for one in board.differences:
        print(f"differs: {one.name}: {', '.join(value or 'none' for value in one.values)}")
    return out
