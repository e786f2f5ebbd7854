"""How tags are written in a cell of a table."""

import ast
from collections.abc import Sequence

SEPARATOR = "|"
UNKNOWN = "?"
"""In place of labels: nobody has looked at the image for this task. An empty cell says that it has none of them."""


def split_tags(text: str) -> tuple[str, ...]:
    """Return the labels in a cell: those between the bars, without blanks around them; none of an empty one."""
    return tuple(part.strip() for part in text.split(SEPARATOR)) if text.strip() else ()


def listed_labels(text: str) -> list[str] | None:
    """Return the labels of a cell that is a list of texts as JSON or Python writes it; None if it is none."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    is_list = isinstance(found, list) and all(isinstance(one, str) for one in found)
    return found if is_list and (found or text == "[]") else None


def all_tags(cells: Sequence[str]) -> list[str]:
    """Return the labels that occur in any of these cells, sorted."""
    return sorted({label for cell in cells if cell != UNKNOWN for label in split_tags(cell)})
