"""The page about masks and objects in a real browser."""

from pathlib import Path

import numpy as np

from graft.dense.pixel_scores import Score
from graft.evaluation.gallery import data_uri
from graft.pixel_reports.mask_page import Gallery, PixelReport, Triple, render
from tests.support.browser import browser

HOSTILE = "<b>fig</b>"


def test_it_loads_nothing_fits_a_phone_and_shows_names_as_text(tmp_path: Path) -> None:
    score = Score(value=0.5, low=0.4, high=0.6)
    picture = data_uri(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))
    photos = [Triple(HOSTILE, "6 found", [("Truth", picture), ("Answer", picture), ("Where it is wrong", picture)])]
    report = PixelReport(
        title="Instance segmentation",
        headline="Mask AP 0.500 on 5 test photos",
        basis="0.4 to 0.6",
        remarks=[("good", "better"), ("caution", "worse")],
        confidence=0.95,
        photos={"train": 9, "test": 5},
        test={"mask_ap": score, "photo_f1": score},
        val={"mask_ap": score},
        paired="photo_f1",
        baselines={"no answer": Score(value=0.0, low=0.0, high=0.0)},
        gains={"no answer": score},
        class_columns=["Photos", "Objects", "AP", "AP50", "Interval of AP50", "Found", "Missed", "Spurious"],
        classes=[(HOSTILE, 1, ["5", "20", "0.812", "0.967", "0.700 to 0.900", "19", "1", "0"])],
        galleries=[Gallery("worst", "The worst", "Truth and answer", photos)],
        made=[("weights", "w")],
    )
    (tmp_path / "report.html").write_text(render(report), encoding="utf-8")
    with browser(tmp_path / "profile") as page:
        page.open(tmp_path / "report.html")
        assert page.complaints == []
        assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []
        assert page.violations() == []
        assert page.run("[...document.querySelectorAll('th')].some(th => th.textContent.includes('<b>fig</b>'))")
        page.screenshot(390, 800)
        assert page.run("document.documentElement.scrollWidth") <= 390
        # A number that wraps cannot be read.
        cell = "[...document.querySelectorAll('#classes td')].find(cell => cell.textContent === '0.812')"
        lines = f"(() => {{ const all = document.createRange(); all.selectNodeContents({cell}); "
        assert page.run(f"{lines} return all.getClientRects().length; }})()") == 1
