import os
from pathlib import Path

import pytest

from graft.core.commit import finish_commit, replacing_together


def make(folder: Path) -> list[Path]:
    """Make a folder, a file and a file elsewhere, as an earlier step left them."""
    paths = [folder / "model", folder / "page.html", folder / "elsewhere" / "metrics.json"]
    paths[0].mkdir()
    (paths[0] / "old.txt").write_text("old")
    paths[2].parent.mkdir()
    for path in paths[1:]:
        path.write_text("old")
    return paths


def write(paths: list[Path]) -> None:
    with replacing_together(paths) as (model, page, metrics):
        model.mkdir()
        (model / "new.txt").write_text("new")
        page.write_text("new")
        metrics.write_text("new")


def content(paths: list[Path]) -> list[list[str] | str]:
    return [sorted(file.name for file in path.glob("*.txt")) if path.is_dir() else path.read_text() for path in paths]


OLD, NEW = [["old.txt"], "old", "old"], [["new.txt"], "new", "new"]


def test_all_appear_and_nothing_else_stays(tmp_path: Path) -> None:
    paths = make(tmp_path)
    write(paths)
    assert content(paths) == NEW
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "SHA256SUMS",
        "elsewhere",
        "metrics.json",
        "model",
        "new.txt",
        "page.html",
    ]


def test_an_exception_leaves_everything_as_it_was(tmp_path: Path) -> None:
    paths = make(tmp_path)

    def fail() -> None:
        with replacing_together(paths) as (model, page, _):
            model.mkdir()
            page.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert content(paths) == OLD
    assert not list(tmp_path.rglob(".*"))


def test_an_output_that_is_not_written_stays(tmp_path: Path) -> None:
    paths = make(tmp_path)
    with replacing_together(paths) as (_, page, _unused):
        page.write_text("new")
    assert content(paths) == [["old.txt"], "new", "old"]


def killed_before(operation: int, paths: list[Path]) -> bool:
    """Write in a child process that dies, without any cleanup, before its n-th change of a name.

    Returns:
        whether it died; it does not if it makes fewer changes.
    """
    child = os.fork()
    if child == 0:
        count = 0

        def counting(plain):  # type: ignore[no-untyped-def]
            def change(self: Path, *args, **kwargs):  # type: ignore[no-untyped-def]
                nonlocal count
                count += 1
                if count == operation:
                    os._exit(9)
                return plain(self, *args, **kwargs)

            return change

        for name in ("rename", "replace", "unlink"):
            setattr(Path, name, counting(getattr(Path, name)))
        write(paths)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.slow
def test_a_reader_after_a_kill_at_any_point_finds_all_old_or_all_new(tmp_path: Path) -> None:
    found = []
    for operation in range(1, 100):
        folder = tmp_path / str(operation)
        folder.mkdir()
        paths = make(folder)
        died = killed_before(operation, paths)
        if not died:
            break
        # any of the outputs may be the first that somebody asks for
        for path in sorted(paths, key=lambda path: (path.name, operation % 2)):
            finish_commit(path)
        found.append(content(paths))
        write(paths)  # and the step can run again
        assert content(paths) == NEW
    assert all(state in (OLD, NEW) for state in found)
    # A kill before the journal leaves the old outputs, any later one the new.
    assert found == sorted(found, reverse=True)
    assert OLD in found
    assert NEW in found


def test_a_moved_folder_can_still_be_finished(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    paths = make(tmp_path / "a")
    for operation in range(1, 100):
        if not killed_before(operation, paths):
            break
    else:
        pytest.fail("the child never got through")
    assert content(paths) == NEW
    half = next(number for number in range(1, operation) if _half(tmp_path, number))
    (tmp_path / f"half{half}").rename(tmp_path / "moved")
    moved = [tmp_path / "moved" / path.relative_to(tmp_path / "a") for path in paths]
    finish_commit(moved[1])
    assert content(moved) == NEW


def _half(folder: Path, operation: int) -> bool:
    """Return whether a kill before this operation leaves some outputs new and some old or away."""
    place = folder / f"half{operation}"
    place.mkdir()
    paths = make(place)
    killed_before(operation, paths)
    return paths[0].is_dir() and (paths[0] / "new.txt").exists() and paths[1].read_text() == "old"
