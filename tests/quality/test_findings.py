"""Kinds of findings: documented, and reported on one line."""

from pathlib import Path

from graft.quality.findings import FAULTS, KINDS, make_finding, verdict


def test_every_kind_is_documented_with_its_severity(root: Path) -> None:
    page = (root / "docs/data.md").read_text(encoding="utf-8")
    for name, kind in KINDS.items():
        assert f"| `{name}` | {kind.severity} | {kind.title} |" in page
    assert set(FAULTS) <= set(KINDS)


def test_a_finding_is_one_line_for_any_file_name() -> None:
    found = make_finding("tiny", "warn", ["a\nb.png", "c.png", "d.png", "e.png"])
    assert found.message == "tiny: very small images: 4 (a\\nb.png, c.png, d.png and 1 more)"
    assert "\n" not in found.line()
    assert found.as_dict()["files"] == ("a\nb.png", "c.png", "d.png", "e.png")


def test_the_worst_severity_is_the_verdict() -> None:
    tiny, bad = make_finding("tiny", "warn", ["a"]), make_finding("truncated", "fail", ["b"])
    assert verdict([]) == "pass"
    assert verdict([make_finding("gps", "info", ["a"])]) == "pass"
    assert verdict([tiny]) == "warn"
    assert verdict([tiny, bad]) == "fail"
