"""Names that file managers, archivers, network drives and notebooks leave behind: they are no part of the data."""

_NAMES = frozenset(
    {
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
        *("__macosx", "@eadir", "@tmp", "#recycle", "#snapshot", "@recycle", "@recently-snapshot"),
        *("$recycle.bin", "system volume information", "lost+found", "__pycache__"),
    }
)
ARCHIVES = frozenset({".zip", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar"})
"""Endings of files that may hold images, and are not unpacked here."""


def is_clutter(name: str) -> bool:
    """Return whether a file or folder of this name is no data: `.git`, `.ipynb_checkpoints`, `@eaDir`, ..."""
    return name.startswith(".") or name.casefold() in _NAMES
