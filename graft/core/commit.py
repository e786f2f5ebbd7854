"""Several outputs that appear together: a reader gets all of the old ones or all of the new ones.

Renaming several paths is several operations. So, as in a database's write-ahead log, a journal first records which
finished temporaries belong where, and is itself put into place by one rename: from then on the outputs count as
written. A process killed before it leaves the old outputs. One killed after it leaves the journal, and whoever next
reads or writes one of the outputs calls `finish_commit` first, which does the renames that are left.
"""

import json
import os
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from graft.core.atomic import commit_pointer, flush, remove, rename_into_place, sweep, temporary_sibling, write_text
from graft.core.checksums import write_checksums


@contextmanager
def replacing_together(paths: Sequence[Path], plain: Collection[Path] = ()) -> Iterator[list[Path]]:
    """Yield a temporary sibling of each path to write to; on success all that were written replace their paths.

    A folder gets its checksums (see `graft.core.checksums`). On an exception the temporaries are removed and the paths
    stay as they were.

    Args:
        paths: of files and folders.
        plain: folders among them that hold the user's own files, in which nothing else may appear.

    Raises:
        GraftError: if a parent folder cannot be written.
    """
    for folder in {path.parent for path in paths}:
        sweep(folder)
    with ExitStack() as stack:
        temporaries = [stack.enter_context(temporary_sibling(path)) for path in paths]
        yield temporaries
        written = {path: temporary for path, temporary in zip(paths, temporaries, strict=True) if temporary.exists()}
        for path, temporary in written.items():
            if path not in plain and temporary.is_dir():
                write_checksums(temporary)
        _commit(written)


def finish_commit(path: Path) -> None:
    """Do the renames that an interrupted commit of `path` and other outputs has left undone, if there is one."""
    pointer = commit_pointer(path)
    if pointer.is_file():
        journal = pointer.parent / pointer.read_text(encoding="utf-8")
        if journal.is_file():
            _replay(journal)
            for aside in path.parent.glob(f".{path.name}.*.old"):
                remove(aside)  # the old output, if the process was killed between two renames
        remove(pointer)


def _commit(written: dict[Path, Path]) -> None:
    if not written:
        return
    first = next(iter(written))
    journal = first.with_name(f".{first.name}.{uuid.uuid4().hex[:8]}.journal")
    for path, temporary in written.items():
        flush(temporary)
        # Relative: the folder may be mounted elsewhere in the process that finishes the commit.
        write_text(commit_pointer(path), os.path.relpath(journal, path.parent))
    renames = [
        [os.path.relpath(one, journal.parent) for one in (temporary, path)] for path, temporary in written.items()
    ]
    write_text(journal, json.dumps(renames))
    _replay(journal)
    for path in written:
        remove(commit_pointer(path))


def _replay(journal: Path) -> None:
    for temporary, path in json.loads(journal.read_text(encoding="utf-8")):
        if (journal.parent / temporary).exists():
            rename_into_place(journal.parent / temporary, journal.parent / path)
    remove(journal)
