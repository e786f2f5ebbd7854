"""How tags are written in a cell of a table."""

from collections.abc import Sequence

SEPARATOR = "|"
UNKNOWN = "?"
"""In place of labels: nobody has looked at the image for this task. An empty cell says that it has none of them."""


def split_tags(text: str) -> tuple[str, ...]:
    """Return the labels in a cell: those between the bars, without blanks around them; none of an empty one."""
    return tuple(part.strip() for part in text.split(SEPARATOR)) if text.strip() else ()


def all_tags(cells: Sequence[str]) -> list[str]:
    """Return the labels that occur in any of these cells, sorted."""
    return sorted({label for cell in cells if cell != UNKNOWN for label in split_tags(cell)})
