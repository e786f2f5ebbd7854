"""What all pages share: templates, styles and scripts, which are in folders beside the modules that use them.

A page loads nothing from outside: it contains its style and script, and its policy allows no other script.
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
    """A script and the source expression that allows it in the page's Content-Security-Policy."""

    text: Markup
    csp_source: str


def template_environment(*folders: str, package: str = REPORTS) -> Environment:
    """Return a Jinja environment for the templates in these folders; it escapes values and rejects undefined names."""
    return Environment(
        loader=ChoiceLoader([PackageLoader(package, folder) for folder in folders]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def stylesheet(more: Sequence[str] = (), package: str = REPORTS) -> Markup:
    """Return the stylesheet of all pages (light, dark and print), followed by a page's own files from a package."""
    return Markup("\n".join([_read("page/page.css"), *(_read(name, package) for name in more)]))


def script(*names: str, package: str = REPORTS) -> Script:
    """Return scripts by their paths in a package as one; by default the one that sorts tables on any page."""
    text = "\n".join(_read(name, package) for name in names or ("page/page.js",))
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Script(Markup(text), f"sha256-{digest}")


def _read(name: str, package: str = REPORTS) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")
