"""Names that are one to a reader, but not to a computer: `7` and `07`, `Cat` and `cat `, two forms of an accent."""

import re
import unicodedata
from collections.abc import Iterable

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)", re.ASCII)


def one_form(text: str) -> str:
    """Return a name in Unicode's composed form: a letter and its accent are one name whichever way they are stored."""
    return unicodedata.normalize("NFC", text)


def form_key(text: str) -> str:
    """Return what names have in common that differ only in case, blanks, accents' form, or the zeros of a number."""
    plain = " ".join(one_form(text).casefold().split())
    return f"{float(plain):.15g}" if _NUMBER.fullmatch(plain) else plain


def look_alikes(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the names that differ only in form, as `form_key` sees it, those alike together, sorted."""
    alike: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        alike.setdefault(form_key(name), []).append(name)
    return [tuple(same) for same in alike.values() if len(same) > 1]
