"""Names that are one to a reader, but not to a computer: `7` and `07`, `Cat` and `cat `, two forms of an accent."""

import re
import unicodedata
from collections.abc import Iterable

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)", re.ASCII)
_BETWEEN_WORDS = re.compile(r"(?<=\w)[\s_\u2010-\u2015-]+(?=\w)|_+")


def one_form(text: str) -> str:
    """Return a name in Unicode's composed form: a letter and its accent are one name whichever way they are stored."""
    return unicodedata.normalize("NFC", text)


def form_key(text: str) -> str:
    """Return what names have in common that differ only in form.

    That is case, blanks, what is between words (`t-shirt`, `t_shirt`), the zeros of a number, and how Unicode stores a
    letter: accents, wide letters, ligatures, and marks that nobody sees.
    """
    seen = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    plain = " ".join(unicodedata.normalize("NFKC", seen).casefold().split())
    if _NUMBER.fullmatch(plain):
        return f"{float(plain):.15g}"
    return _BETWEEN_WORDS.sub(" ", plain)


def look_alikes(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the names that differ only in form, as `form_key` sees it, those alike together, sorted."""
    alike: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        alike.setdefault(form_key(name), []).append(name)
    return [tuple(same) for same in alike.values() if len(same) > 1]
