"""Artifacts without checksums, as earlier versions wrote them: what a reader itself says of a strange file is seen."""

from pathlib import Path

from graft.core.checksums import SUMS_FILE


def unsealed(folder: Path) -> Path:
    """Remove the checksums of an artifact; return its folder."""
    for file in folder.rglob(SUMS_FILE):
        file.unlink()
    return folder
