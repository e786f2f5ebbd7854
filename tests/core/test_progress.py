import sys
from collections.abc import Iterator

import pytest

from graft.core import progress


@pytest.mark.parametrize(
    ("total", "seconds", "line"),
    [
        (10, 6.0, "reading: 1/10 images, 0.2/s, 54 s left"),
        (1000, 6.0, "reading: 1/1000 images, 0.2/s, 100 min left"),
        (10000, 6.0, "reading: 1/10000 images, 0.2/s, 16.7 h left"),
        (None, 6.0, "reading: 1 images, 0.2/s"),
    ],
)
def test_a_line_shows_progress_and_remaining_time(
    total: int | None, seconds: float, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0

    def work() -> Iterator[int]:
        nonlocal now
        now += seconds
        yield 1

    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert list(progress.progress(work(), "reading", total)) == [1]
    assert capsys.readouterr().err == f"{line}\n"
