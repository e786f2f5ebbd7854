"""The temporary files of a process: in one folder with those of its libraries and children, which goes with it.

Libraries make folders of any name among the machine's temporary files, and leave them there when they are killed. Here
they are made in a folder that bears the mark of the process, and whoever starts next removes those without an owner.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from graft.core.atomic import remove
from graft.core.owners import is_abandoned, owner_mark

_VARIABLE, _MACHINES = "TMPDIR", "GRAFT_MACHINE_TMPDIR"
_NAME = re.compile(r"graft-(?P<owner>[0-9a-f]{8}-[0-9]+-[0-9a-f]+)")


@contextmanager
def own_temporaries() -> Iterator[None]:
    """Have all temporary files in a folder of this process, which is removed at the end.

    Within a process or its children that have one already, and where none can be made, this does nothing.
    """
    place = machine_temporaries()
    if _MACHINES in os.environ:
        yield
        return
    _sweep(place)
    folder = place / f"graft-{owner_mark()}"
    try:
        folder.mkdir(mode=0o700)
    except OSError:  # full, read-only, or this process has one that another of its threads made
        yield
        return
    before, known = os.environ.get(_VARIABLE), tempfile.tempdir
    os.environ |= {_VARIABLE: str(folder), _MACHINES: str(place)}
    tempfile.tempdir = None  # it is looked up again
    try:
        yield
    finally:
        tempfile.tempdir = known
        del os.environ[_MACHINES]
        os.environ.pop(_VARIABLE)
        if before is not None:
            os.environ[_VARIABLE] = before
        with suppress(OSError):
            remove(folder)


def machine_temporaries() -> Path:
    """Return the folder of temporary files that all processes of the machine share."""
    return Path(os.environ.get(_MACHINES) or tempfile.gettempdir())


def _sweep(place: Path) -> None:
    """Remove the folders of this user's processes that have ended."""
    with suppress(OSError):
        for left in list(place.glob("graft-*-*-*")):
            found = _NAME.fullmatch(left.name)
            with suppress(OSError):  # another process may sweep at the same time
                if found and is_abandoned(found["owner"]) and left.lstat().st_uid == os.getuid():
                    remove(left)
