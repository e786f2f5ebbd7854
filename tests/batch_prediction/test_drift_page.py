"""The drift page in a real browser."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from graft.batch_prediction.drift_page import TaskDrift, headline, next_step, render, write_drift
from graft.batch_prediction.tables import BatchResult
from graft.stats.drift import Drift, PredictionSample, Shift, detect_drift
from tests.support.browser import Browser, browser

LABELS = ("ant", '<img src="http://example.org/x.png" onerror="alert(1)">', "cat")


def seen(size: int, seed: int, shares: tuple[float, ...]) -> PredictionSample:
    generator = np.random.default_rng(seed)
    return PredictionSample(
        generator.choice(3, size, p=shares), generator.beta(8, 2, size), generator.normal(0.8, 0.1, size)
    )


def task(name: str, before: PredictionSample | None, now: PredictionSample) -> TaskDrift:
    return TaskDrift(name, LABELS, now, before, detect_drift(before, now, 3))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("drift")
    before, now = seen(300, 0, (0.3, 0.3, 0.4)), seen(200, 1, (0.8, 0.1, 0.1))
    result = BatchResult(images=203, errors=3, reused=0, seen=now, abstained=0.25)
    write_drift(folder, "models:/<b>x</b>@champion", result, [task("insect", before, now)])
    with browser(tmp_path_factory.mktemp("profile")) as chromium:
        chromium.open(folder / "drift.html")
        yield chromium


def test_it_loads_nothing_and_says_what_changed(page: Browser) -> None:
    assert page.complaints == []
    assert page.violations() == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []
    assert page.run("document.querySelector('h1').textContent").endswith("was tested on: answers")
    assert page.run("document.querySelectorAll('svg.figure').length") == 4
    assert page.run("document.querySelectorAll('img').length") == 0
    assert "graft adapt <their folder> adapts the model" in page.run("document.body.textContent")
    assert "3 files could not be read" in page.run("document.body.textContent")
    assert page.run("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize(
    ("moved", "sentence"),
    [
        (("labels",), "was tested on: answers"),
        (("labels", "confidence"), "answers and confidence"),
        (("labels", "confidence", "features"), "answers, confidence and features"),
        ((), "No sign that"),
    ],
)
def test_the_headline_names_what_moved(moved: tuple[str, ...], sentence: str) -> None:
    shifts = {name: Shift(0.2, 0.001, name in moved) for name in ("labels", "confidence", "features")}
    assert sentence in headline(Drift(10, 10, foreign=None, drifted=bool(moved), **shifts))


def test_the_next_step_is_named_only_if_something_moved() -> None:
    still = Drift(10, 10, None, None, None, None, False)
    assert next_step(still) == ""
    named = next_step(replace(still, drifted=True))
    assert "graft adapt " in named
    assert "graft update " in named


def test_the_headline_says_if_there_is_nothing_to_compare_with() -> None:
    assert headline(Drift(10, 0, None, None, None, None, False)) == "There is nothing to compare these images with"


def test_every_task_has_its_rows_and_figures_and_only_the_moved_ones_are_named() -> None:
    before, moved, still = seen(300, 0, (0.3, 0.3, 0.4)), seen(200, 1, (0.8, 0.1, 0.1)), seen(300, 2, (0.3, 0.3, 0.4))
    result = BatchResult(200, 0, 0, still, None, (moved,))
    html = render("model", result, [task("insect", before, still), task("<b>sex</b>", before, moved)])
    assert "tested on: &lt;b&gt;sex&lt;/b&gt;: answers</h1>" in html
    assert html.count('<th scope="row">insect</th>') == html.count('<th scope="row">&lt;b&gt;sex&lt;/b&gt;</th>') == 3
    assert html.count("<svg") == 8
    assert "graft adapt" in html
