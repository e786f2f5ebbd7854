"""Which formats can be read here: Pillow's own, and those whose decoder comes with the extra `formats`.

A format is opened by its own parser alone, found by the first bytes (`signatures`): rarely used parsers stay away from
malicious files of another kind.
"""

import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass

from PIL import features

COMMON = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""Pillow's names of the formats that are always read."""

_REMEDIES: Mapping[str, str] = {
    "Git LFS pointer": "fetch the image that it stands for with git lfs pull",
    "web page": "it was probably downloaded in place of the image; download it again",
    "gzip": "unpack it",
    "ZIP": "unpack it",
}


@dataclass(frozen=True)
class _Plugin:
    pillow: str
    """Pillow's name of the format."""
    module: str
    package: str


_PLUGINS: Mapping[str, _Plugin] = {
    "HEIF": _Plugin("HEIF", "pillow_heif", "pillow-heif"),
    "JPEG XL": _Plugin("JXL", "pillow_jxl", "pillow-jxl-plugin"),
}


def pillow_format(name: str) -> str | None:
    """Return Pillow's name of a format (a name of `signatures`) if it can be read here, else None."""
    if name in COMMON:
        return name
    if name == "AVIF":
        return name if features.check("avif") else None
    return _registered(name) if name in _PLUGINS else None


def remedy(name: str) -> str:
    """Return what to do about a format that cannot be read."""
    if name in _PLUGINS:
        return f"install {_PLUGINS[name].package} (the extra `formats`), or convert it to JPEG or PNG"
    return _REMEDIES.get(name, "convert it to JPEG or PNG")


@functools.cache
def _registered(name: str) -> str | None:
    plugin = _PLUGINS[name]
    try:
        module = importlib.import_module(plugin.module)  # pillow_jxl registers its opener when it is imported
    except ImportError:
        return None
    if name == "HEIF":
        module.register_heif_opener(thumbnails=False)
    return plugin.pillow
