"""Which classes are new to a model, and which only look new because their name is written differently."""

import difflib
import re
from collections.abc import Sequence
from typing import Literal

from graft.core.errors import DataError

NEARLY_EQUAL = 0.8
"""Names with a larger ratio of matching characters are nearly equal."""
Policy = Literal["ask", "allow", "refuse"]


def new_classes(known: Sequence[str], found: Sequence[str], policy: Policy) -> tuple[str, ...]:
    """Return the classes among `found` that are not `known`, sorted.

    Args:
        known: the model's classes.
        found: classes of new images.
        policy: `ask` stops at a new class whose name is nearly that of a known one, `refuse` at any new class.

    Raises:
        DataError: if the policy stops.
    """
    new = tuple(sorted(set(found) - set(known)))
    if policy == "refuse" and new:
        raise DataError(
            f"new classes {_listed(new)}: update_model.new_classes=refuse allows only the {len(known)} known ones"
        )
    if policy == "ask":
        for name in new:
            for other in known:
                if nearly_equal(name, other):
                    raise DataError(
                        f"class {name!r} is nearly the known class {other!r}: rename its images, "
                        "or set update_model.new_classes=allow to learn it as a class of its own"
                    )
    return new


def nearly_equal(one: str, other: str) -> bool:
    """Return whether two different names probably mean one class: spelling, case or separators differ.

    Names that differ in a number do not: `line_1` and `line_2` are two classes.
    """
    plain, others = (re.sub(r"[\W_]+", "", name).casefold() for name in (one, other))
    if plain == others:
        return True
    if re.findall(r"\d+", one) != re.findall(r"\d+", other):
        return False
    return difflib.SequenceMatcher(None, plain, others).ratio() > NEARLY_EQUAL


def _listed(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(map(repr, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")
