"""The cache of examinations: the same result, only for the same content, code and settings."""

import time
from pathlib import Path

import pytest

from graft.quality import examination_cache
from graft.quality.examination_cache import FILE, open_examination_cache
from graft.quality.image_statistics import examine
from tests.support.encoded import encoded, scene

CONTENTS = [encoded(scene(0), "JPEG"), encoded(scene(1), "PNG"), b"", b"text"]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def remember(max_pixels: int = 10**8) -> None:
    with open_examination_cache(max_pixels) as memory:
        assert memory is not None
        for content in CONTENTS:
            memory.add(examine(content))


def test_cached_examinations_equal_the_originals(cache: Path) -> None:
    remember()
    with open_examination_cache(10**8) as memory:
        assert memory is not None
        for content in CONTENTS:
            assert memory(examine(content).id) == examine(content)
        assert memory("f" * 64) is None


def test_other_settings_or_code_find_nothing_in_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remember()
    identity = examine(CONTENTS[0]).id
    with open_examination_cache(10**7) as memory:
        assert memory is not None
        assert memory(identity) is None
    monkeypatch.setattr(examination_cache, "source_digest", lambda *modules: "other")
    with open_examination_cache(10**8) as memory:
        assert memory is not None
        assert memory(identity) is None


def found_by(code: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(examination_cache, "source_digest", lambda *modules: code)
    with open_examination_cache(10**8) as memory:
        assert memory is not None
        return memory(examine(CONTENTS[0]).id) is not None


def test_branches_keep_each_others_examinations(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for code in ("main", "branch"):
        monkeypatch.setattr(examination_cache, "source_digest", lambda *modules, code=code: code)
        remember()
    assert found_by("main", monkeypatch)
    assert found_by("branch", monkeypatch)


def test_a_version_that_is_not_used_for_a_month_is_forgotten(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(examination_cache, "source_digest", lambda *modules: "old")
    remember()
    monkeypatch.setattr(examination_cache.time, "time", lambda: now + 20 * 24 * 3600)
    assert found_by("old", monkeypatch)
    monkeypatch.setattr(examination_cache.time, "time", lambda: now + 40 * 24 * 3600)
    assert not found_by("new", monkeypatch)
    assert found_by("old", monkeypatch), "used twenty days ago"
    monkeypatch.setattr(examination_cache.time, "time", lambda: now + 80 * 24 * 3600)
    found_by("new", monkeypatch)
    assert not found_by("old", monkeypatch)


def test_no_cache_and_a_broken_one(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir()
    (cache / FILE).write_bytes(b"no database" * 100)
    with pytest.warns(UserWarning, match="thrown away and made again"), open_examination_cache(10**8) as memory:
        assert memory is not None
    monkeypatch.setenv("GRAFT_CACHE", "off")
    with open_examination_cache(10**8) as memory:
        assert memory is None
