"""Where a bundle of several tasks keeps what is known of each: names alone, without torch."""

from pathlib import Path

HEADS_FOLDER = "heads"


def task_folder(folder: Path, task: str) -> Path:
    """Return the folder in a bundle's that keeps what is known of a task: its own for the first one, named ""."""
    return folder / HEADS_FOLDER / task if task else folder


def head_file(folder: Path, task: str) -> Path:
    """Return the file in a bundle's folder that keeps the output layer of a task after the first."""
    return folder / HEADS_FOLDER / f"{task}.safetensors"
