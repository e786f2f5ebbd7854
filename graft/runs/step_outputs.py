"""Where the outputs of a run's steps lie on this machine: `steps/<when>/<step>/<name>` below its folder."""

from pathlib import Path


def latest_output(run: Path, step: str, name: str) -> Path | None:
    """Return the newest output of a step; None if the run's folder has none.

    Args:
        run: output folder of a run, such as `outputs`.
        step: with dashes, such as `validate-data`.
        name: of the output, such as `dataset`.
    """
    found = sorted((run / "steps").glob(f"*/{step}/{name}"))
    return found[-1] if found else None
