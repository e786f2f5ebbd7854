"""Pictures of the pages for the guides: `python -m tests.support.screenshots FOLDER [PICTURE ...]`.

FOLDER is what `tests.support.guide_runs` made. Without names every picture is taken whose page is there.

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


WIDE = (1280, 1180)
SHOTS: Mapping[str, Shot] = {
    "report": Shot("demo/report.html", WIDE),
    "report-dark": Shot("demo/report.html", WIDE, scheme="dark"),
    "report-phone": Shot("demo/report.html", (390, 1400)),
    "report-print": Shot("demo/report.html", PAPER, printed=True),
    "review": Shot("demo/review/review.html", WIDE),
    "labels": Shot("demo/review/labels.html", WIDE),
    "data": Shot("photos/validation/data.html", WIDE),
    "comparison": Shot("comparison.html", WIDE),
    "drift": Shot("predicted/drift.html", WIDE),
    "to_label": Shot("predicted/to_label.html", WIDE),
    "adaptation": Shot("adapted/adaptation.html", WIDE),
    "masks": Shot("masks/report.html", WIDE),
    "objects": Shot("objects/report.html", WIDE),
}
PAGE = "reports/page"
SOURCES: Mapping[str, tuple[str, ...]] = {
    "report": (PAGE, "reports/evaluation_page", "reports/embedding_view"),
    "review": (PAGE, "reports/feature_page", "reports/finding_view", "reports/embedding_view"),
    "labels": (PAGE, "reports/label_page"),
    "data": (PAGE, "reports/data_page", "reports/finding_view"),
    "comparison": (PAGE, "reports/leaderboard_page"),
    "drift": (PAGE, "batch_prediction/drift_page"),
    "to_label": (PAGE, "reports/label_page", "labelling/to_label_page"),
    "adaptation": (PAGE, "revision/adaptation_page"),
    "masks": (PAGE, "pixel_reports/mask_page"),
    "objects": (PAGE, "pixel_reports/mask_page"),
}
"""Folders of `graft` with what a page is made from, by the picture's first word."""


def digest(name: str) -> str:
    """Return the sha256 of what the page of a picture is made from."""
    found = hashlib.sha256()
    for folder in SOURCES[name.partition("-")[0]]:
        for file in sorted((ROOT / "graft" / folder).rglob("*.*")):
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
    """Take the pictures."""
    folder, *chosen = sys.argv[1:]
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    for name in chosen or SHOTS:
        shot = SHOTS[name]
        if not (Path(folder) / shot.page).is_file():
            print(f"{name}: not taken, {folder}/{shot.page} is missing")
            continue
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, browser(Path(profile)) as page:
            (PLACE / f"{name}.png").write_bytes(take(page, Path(folder), shot))
        record[name] = digest(name)
    RECORD.write_text(json.dumps({name: record[name] for name in SHOTS if name in record}, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
