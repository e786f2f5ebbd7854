"""Label errors: swapped labels rank first, nothing is changed, and relabelling can read the queue."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from graft.core.errors import DataError
from graft.data.label_queue import QUEUE_COLUMNS, read_queue
from graft.quality.label_errors import find_label_errors, label_error_score
from graft.reports.label_page import review_labels
from tests.support.browser import Browser, browser
from tests.support.encoded import encoded, scene

CLASSES = ("ant", "bee", "wasp")
HOSTILE = '</script><b>"x", y\'.png'


def predicted(n: int = 300, swapped: int = 30) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Return a table with swapped labels, fairly accurate probabilities, and which rows are swapped."""
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 3, n)
    logits = generator.normal(size=(n, 3))
    logits[np.arange(n), truth] += 4
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    given = truth.copy()
    wrong = np.zeros(n, bool)
    wrong[generator.choice(n, swapped, replace=False)] = True
    given[wrong] = (given[wrong] + 1) % 3
    paths = [f"{row}.png" for row in range(n)]
    paths[int(np.flatnonzero(wrong)[0])] = HOSTILE
    return pd.DataFrame({"path": paths, "label": np.array(CLASSES)[given]}), probabilities, wrong


def test_swapped_labels_are_found_and_ranked_first() -> None:
    table, probabilities, wrong = predicted()
    queue = find_label_errors(table, probabilities, CLASSES)
    assert list(queue.columns) == [*QUEUE_COLUMNS, "row"]
    assert queue["score"].is_monotonic_decreasing
    assert wrong[queue["row"][:20]].all()
    assert wrong[queue["row"]].sum() >= 24
    assert (queue["label"] != queue["suggested"]).all()
    assert (queue["decision"] == "").all()


def test_confident_predictions_and_missing_classes_are_not_suspected() -> None:
    table = pd.DataFrame({"path": list("abcdef"), "label": ["ant", "bee"] * 3})
    probabilities = np.tile([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0]], (3, 1))
    assert find_label_errors(table, probabilities, CLASSES).empty
    assert find_label_errors(table.assign(label="ant"), probabilities, CLASSES).empty


def test_label_error_score() -> None:
    assert label_error_score(np.array([0, 1]), np.array([[0.9, 0.1], [0.7, 0.3]])).tolist() == pytest.approx([0.1, 0.7])


@pytest.mark.parametrize(
    ("table", "probabilities", "line"),
    [
        ({"path": ["a"], "label": ["ant"]}, np.ones((2, 3)), r"shape \(2, 3\), expected \(1, 3\)"),
        ({"path": ["a"], "label": ["cat"]}, np.ones((1, 3)), "label 'cat' is not one of the classes ant, bee, wasp"),
        ({"path": ["a"], "label": ["ant"]}, np.full((1, 3), np.nan), "probabilities that are not finite"),
    ],
)
def test_what_does_not_fit(table: dict[str, list[str]], probabilities: np.ndarray, line: str) -> None:
    with pytest.raises(DataError, match=line):
        find_label_errors(pd.DataFrame(table), probabilities, CLASSES)


@pytest.fixture(scope="module")
def review(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("review")
    table, probabilities, _ = predicted()
    finding = review_labels(folder, table, probabilities, CLASSES, lambda row: encoded(scene(row), "PNG"))
    assert finding is not None
    assert (finding.kind, finding.severity) == ("label_error", "warn")
    return folder


@pytest.fixture(scope="module")
def opened(review: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as chromium:
        chromium.open(review / "labels.html")
        yield chromium


def test_the_queue_is_what_relabelling_reads(review: Path) -> None:
    reviews = read_queue(review / "queue.csv")
    assert len(reviews) >= 24
    assert all(one.decision == "" and one.new_label == one.label for one in reviews)
    assert HOSTILE in {one.path for one in reviews}


def test_no_error_leaves_an_empty_queue(tmp_path: Path) -> None:
    table = pd.DataFrame({"path": list("abcd"), "label": ["ant", "bee"] * 2})
    probabilities = np.tile([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0]], (2, 1))
    assert review_labels(tmp_path / "labels", table, probabilities, CLASSES) is None
    assert read_queue(tmp_path / "labels/queue.csv") == []
    assert "No label looks wrong" in (tmp_path / "labels/labels.html").read_text()


def test_a_single_suspected_label_has_a_page(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"path": [f"{number}.png" for number in range(20)], "label": ["ant"] + ["ant", "bee"] * 9 + ["ant"]}
    )
    probabilities = np.where((table["label"] == "ant").to_numpy()[:, None], [0.98, 0.01, 0.01], [0.01, 0.98, 0.01])
    probabilities[0] = [0.01, 0.98, 0.01]
    assert review_labels(tmp_path / "labels", table, probabilities, CLASSES) is not None
    assert [one.path for one in read_queue(tmp_path / "labels/queue.csv")] == ["0.png"]


def test_decisions_by_keyboard_become_the_saved_queue(opened: Browser, tmp_path: Path) -> None:
    assert opened.complaints == []
    assert opened.violations() == []
    assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []
    opened.run("document.querySelector('.queue li').focus()")
    for key in ("r", "k"):
        for kind in ("keyDown", "keyUp"):
            opened.send("Input.dispatchKeyEvent", type=kind, key=key, text=key)
    assert opened.run("document.getElementById('progress').textContent").startswith("2 of ")
    opened.run(
        "const list = document.querySelectorAll('.queue select')[2]; list.value = 'wasp';"
        "list.dispatchEvent(new Event('change'))"
    )
    saved = tmp_path / "queue.csv"
    saved.write_text(opened.run("csv()"), encoding="utf-8")
    reviews = read_queue(saved)
    assert [one.decision for one in reviews[:4]] == ["relabel", "keep", "relabel", ""]
    assert reviews[0].new_label != reviews[0].label
    assert reviews[2].new_label == "wasp"
    assert HOSTILE in {one.path for one in reviews}
