"""Pictures of the pages for the guides: `python -m tests.support.screenshots OUT DATA_OUT`.

OUT is the output folder of a run, DATA_OUT that of a run on images with findings.

A file beside the pictures holds a digest of the templates, styles and scripts that they show. A test compares it, so
that a picture is taken anew when its page has changed.
"""

import hashlib
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.support.browser import Browser, browser

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "docs" / "images"
RECORD = PLACE / "screenshots.json"
PAPER = (794, 900)
"""Pixels of an A4 page at 96 dots per inch, without the empty end of the first."""


class Shot(NamedTuple):
    """A picture of a page."""

    page: str
    """Its file in the output folder."""
    size: tuple[int, int]
    scheme: str = "light"
    printed: bool = False


SHOTS: Mapping[str, Shot] = {
    "report": Shot("report.html", (1280, 1180)),
    "report-dark": Shot("report.html", (1280, 1180), scheme="dark"),
    "report-phone": Shot("report.html", (390, 1400)),
    "report-print": Shot("report.html", PAPER, printed=True),
    "data": Shot("validation/data.html", (1280, 1180)),
}
SOURCES: Mapping[str, tuple[str, ...]] = {
    "report": ("page", "evaluation_page", "embedding_view"),
    "data": ("page", "data_page", "finding_view"),
}
"""Folders of `graft/reports` with what a page is made from, by the picture's first word."""


def digest(name: str) -> str:
    """Return the sha256 of what the page of a picture is made from."""
    found = hashlib.sha256()
    for folder in SOURCES[name.partition("-")[0]]:
        for file in sorted((ROOT / "graft" / "reports" / folder).rglob("*.*")):
            if file.suffix in {".j2", ".css", ".js"}:
                found.update(file.name.encode() + file.read_bytes())
    return found.hexdigest()


def take(page: Browser, out: Path, shot: Shot) -> bytes:
    """Return a picture as PNG."""
    page.open(out / shot.page)
    page.send("Emulation.setScrollbarsHidden", hidden=True)
    if shot.printed:
        page.send("Emulation.setEmulatedMedia", media="print")
        width, height = shot.size
        page.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        return page.picture()
    return page.screenshot(*shot.size, shot.scheme)


def main() -> None:
    """Take every picture."""
    out, data_out = map(Path, sys.argv[1:])
    for name, shot in SHOTS.items():
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, browser(Path(profile)) as page:
            (PLACE / f"{name}.png").write_bytes(take(page, data_out if name == "data" else out, shot))
    RECORD.write_text(json.dumps({name: digest(name) for name in SHOTS}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
