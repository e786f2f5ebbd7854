import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from graft.core.owners import owner_mark
from graft.core.temporaries import machine_temporaries, own_temporaries


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_what_is_made_meanwhile_goes_with_it(place: Path) -> None:
    with own_temporaries():
        folder = Path(tempfile.mkdtemp())
        assert folder.parent == place / f"graft-{owner_mark()}"
        child = subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip()
        assert Path(child).parent == folder.parent
        assert folder.parent.stat().st_mode & 0o777 == 0o700
        assert machine_temporaries() == place  # a lock there is one for all processes
        with own_temporaries():
            assert Path(tempfile.mkdtemp()).parent == folder.parent
    assert list(place.iterdir()) == []
    assert (os.environ["TMPDIR"], tempfile.gettempdir()) == (str(place), str(place))


def test_what_a_killed_process_left_goes_with_the_next(place: Path) -> None:
    work = (
        "import os, tempfile\nfrom graft.core.temporaries import own_temporaries\n"
        "with own_temporaries():\n    tempfile.mkdtemp()\n    os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", work], check=False).returncode == -9
    assert len(list(place.rglob("*"))) == 2
    others = [place / "graft-notes", place / f"graft-{owner_mark()[:-1]}0-of-somebody"]
    for other in others:
        other.mkdir()
    with own_temporaries():
        assert sorted(place.iterdir()) == sorted([*others, place / f"graft-{owner_mark()}"])


def test_a_place_that_is_full_changes_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, mode: int = 0) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with own_temporaries():
        assert tempfile.gettempdir() == str(place)
