import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipelines.local.summary import Summary, build, read_metrics, show

ESTIMATE = {"value": 0.95, "low": 0.93, "high": 0.97}


def metrics(classes: int = 2) -> dict[str, dict[str, Any]]:
    counts = {f"class {i}": 10 + i for i in range(classes)}
    return {
        "get_data": {"digest": "a", "files": 3, "source": "data", "seconds": 1.0},
        "validate_data": {"digest": "d" * 64, "counts": {"train": counts, "test": counts}, "seconds": 2.0},
        "extract_features": {"backbone": "net", "weights": "w", "weights_sha256": "f" * 64, "seconds": 3.0},
        "train_head": {"depth": "blocks.5", "seconds": 4.0},
        "review_features": {"findings": {"label_error": 2}, "shift": {}, "seconds": 2.0},
        "fine_tune": {"trained_groups": ["blocks.5"], "untried": "2 of 480 wrong: nothing to win", "seconds": 5.0},
        "evaluate": {"test": {"accuracy": ESTIMATE, "recall[a]": ESTIMATE}, "seconds": 6.0},
        "register_model": {
            "name": "graft",
            "version": "3",
            "alias": "champion",
            "reasons": [],
            "tracking_uri": "sqlite:///m.db",
            "run_id": "r1",
            "seconds": 7.0,
        },
    }


def shown(summary: Summary) -> str:
    console = Console(file=io.StringIO(), width=100)
    show(summary, console, {"report": "out/report.html"}, "make ui")
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return str(text)


def test_the_keys_are_the_documented_ones(root: Path) -> None:
    summary = build(metrics(), 30.0).model_dump(mode="json")
    assert summary["metrics"]["test"]["accuracy"] == ESTIMATE
    assert summary["seconds"]["total"] == 30.0
    assert summary["model"] == {"name": "graft", "version": 3, "alias": "champion", "reasons": []}
    documented = (root / "docs" / "summary.md").read_text()
    for part, content in summary.items():
        for key in content if isinstance(content, dict) else ():
            if part != "seconds":
                assert f"`{part}.{key}" in documented, f"{part}.{key}"
        assert f"`{part}" in documented


def test_the_table_shows_the_main_results() -> None:
    text = shown(build(metrics(), 30.0))
    for expected in (
        "class 0 10, class 1 11",
        "0.9500  (0.9300 to 0.9700)",
        "net up to blocks.5",
        "head, blocks.5",
        "graft version 3 (champion)",
        "out/report.html",
        "make ui",
        "2 of 480 wrong: nothing to win",
        "total 30.0",
    ):
        assert expected in text


def test_a_model_that_was_refused_says_why() -> None:
    values = metrics()
    values["register_model"] |= {"alias": "challenger", "reasons": ["one image takes 1049 ms", "recall of [a] is 0"]}
    text = shown(build(values, 1.0))
    assert "graft version 3 (challenger)" in text
    assert text.count("not promoted") == 2
    assert "recall of [a] is 0" in text
    assert "not promoted" not in shown(build(metrics(), 1.0))


def test_many_classes_stay_one_line() -> None:
    assert "classes of" not in shown(build(metrics(2), 1.0))
    assert "1,725 in 50 classes of 10 to 59" in shown(build(metrics(50), 1.0))


def test_text_in_brackets_is_not_markup() -> None:
    values = metrics()
    values["validate_data"]["counts"] = {"train": {"[red]x[/red]": 1}}
    assert "[red]x[/red] 1" in shown(build(values, 1.0))


def test_an_undefined_metric_is_shown_as_undefined() -> None:
    values = metrics()
    values["evaluate"]["test"]["auroc"] = {"value": None, "low": None, "high": None}
    assert "undefined for these images" in shown(build(values, 1.0))


def test_a_missing_metric_is_named() -> None:
    values = metrics()
    del values["train_head"]["depth"]
    with pytest.raises(KeyError, match="depth"):
        build(values, 1.0)


def test_metrics_are_read_from_the_steps(tmp_path: Path) -> None:
    (tmp_path / "m").write_text(json.dumps({"a": 1}))
    assert read_metrics({"x": tmp_path / "m"}) == {"x": {"a": 1}}
