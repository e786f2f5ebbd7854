"""The look of every page: light, dark and print, without anything from outside."""

from pathlib import Path

from markupsafe import Markup

PAGE = Path(__file__).with_suffix("") / "page.css"


def style(*more: Path) -> Markup:
    """Return the style of all pages, followed by what one page adds in files of its own."""
    return Markup("\n".join(file.read_text(encoding="utf-8") for file in (PAGE, *more)))
