"""The names of torchvision's and timm's architectures, read from their source: importing torch takes seconds.

Both libraries register an architecture by decorating the function that builds it.
"""

import difflib
import importlib.util
import re
from functools import cache
from pathlib import Path

from graft.core.errors import ModelError

_REGISTERED = re.compile(r"^@register_model(?:\([^\n]*\))?\n(?:@[^\n]*\n)*def (\w+)", re.MULTILINE)
_FOLDERS = (("torchvision", "models"), ("timm", "models"))


def check_architecture(name: str) -> None:
    """Raise an error for a name that neither library has; if neither library is installed, any name passes.

    Raises:
        ModelError: with the nearest known names.
    """
    known = architecture_names()
    if not known or name.partition(".")[0] in known:  # timm: name.weights
        return
    close = difflib.get_close_matches(name, known, n=3)
    hint = (
        f"did you mean {' or '.join(close)}?"
        if close
        else "see torchvision.models.list_models() and timm.list_models()"
    )
    raise ModelError(f"extract_features.backbone={name!r}: unknown architecture; {hint}")


@cache
def architecture_names() -> frozenset[str]:
    """Return the names that the installed libraries register."""
    return frozenset(
        name
        for package, *inner in _FOLDERS
        for file in _folder(package).joinpath(*inner).glob("*.py")
        for name in _REGISTERED.findall(file.read_text(encoding="utf-8"))
    )


def _folder(package: str) -> Path:
    """Return the folder of a package without importing it."""
    found = importlib.util.find_spec(package)
    return Path(found.origin).parent if found and found.origin else Path("/nonexistent")
