"""What every page is made from: templates, styles and scripts that lie in folders beside the modules that use them.

A page loads nothing from outside: its style and its script stand in it, and its policy lets no other script run.
"""

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

REPORTS = "graft.reports"


class Script(NamedTuple):
    """A script and the source by which a page's Content-Security-Policy allows it."""

    text: Markup
    allowed: str


def environment(*folders: str, package: str = REPORTS) -> Environment:
    """Return an environment that finds templates in these folders of a package, escapes and knows no undefined name."""
    return Environment(
        loader=ChoiceLoader([PackageLoader(package, folder) for folder in folders]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def style(more: Sequence[str] = ()) -> Markup:
    """Return the style of all pages, light, dark and printed, followed by what one page adds in files of its own."""
    return Markup("\n".join(_read(name) for name in ("page/page.css", *more)))


def script(name: str = "page/page.js") -> Script:
    """Return a script by its path in this wing; without one the script that sorts and filters tables on any page."""
    text = _read(name)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Script(Markup(text), f"sha256-{digest}")


def _read(name: str) -> str:
    return resources.files(REPORTS).joinpath(name).read_text(encoding="utf-8")
