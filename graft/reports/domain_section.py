"""The source-by-target table as a section of the evaluation report."""

from html import escape

from graft.evaluation.domain_table import Cell, Table

END = "</main>"


def with_domains(page: str, table: Table) -> str:
    """Return the report with a section about target domains; unchanged if the table is empty."""
    if not table:
        return page
    columns = list(dict.fromkeys(where for row in table.values() for where in row))
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    rows = "".join(
        f"<tr><th>{escape(name)}</th>" + "".join(_shown(row.get(column)) for column in columns) + "</tr>"
        for name, row in table.items()
    )
    section = (
        '<section id="domains" aria-labelledby="domains-title"><h2 id="domains-title">On other domains</h2>'
        "<p>A row for the model as it was trained and for each one adapted to a domain; a column for each set of "
        "images. On target domains only images with a label count; none of them was adapted to. Estimates are the "
        "agreement of two views, not measurements.</p>"
        f'<div class="scroll"><table><thead><tr><th>Model</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        "</section>\n"
    )
    return page.replace(END, section + END, 1)


def _shown(cell: Cell | None) -> str:
    if cell is None:
        return "<td>no label</td>"
    span = f"{cell.low:.3f} to {cell.high:.3f}"
    if cell.estimated:
        return f"<td>about {cell.value:.3f}, estimated from {cell.images:,} images</td>"
    return f"<td>{cell.value:.3f} ({span}), {cell.images:,} images</td>"
