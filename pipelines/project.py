"""A project beside a user's images: the files that `graft init` lays."""

import re
from pathlib import Path

from graft.core.atomic import write_text
from graft.core.errors import GraftError
from graft.core.installed import DISTRIBUTION, home

GITIGNORE = """# what Graft leaves behind; params.yaml, dvc.yaml and dvc.lock belong in git
/outputs/
/artifacts/
/mlruns/
/.graft/
/.graft-cache/
"""
MAKEFILE = """# The same commands as `graft ...`, for those who type make.
.DEFAULT_GOAL := run
.PHONY: run resume validate predict serve repro
run resume repro:
\tgraft $@
validate:
\tgraft validate $(DATA)
predict:
\tgraft predict $(DATA)
serve:
\tgraft serve
"""
WORKFLOW = f"""# Checks the images on every push; a run registers a model when it is started by hand.
name: graft
on:
  push:
  workflow_dispatch:
jobs:
  images:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with: {{python-version: "3.11"}}
      - run: pip install "{DISTRIBUTION}[run]"
      - run: graft validate DATA
      - run: graft run
        if: github.event_name == 'workflow_dispatch'
      - uses: actions/upload-artifact@v4
        if: always()
        with: {{name: pages, path: outputs, if-no-files-found: ignore}}
"""
_CODE = re.compile(r"^ +- (graft|components)/.*\n", re.MULTILINE)
_COMMENT = re.compile(r"\A(#.*\n)+")
_EXPECTATIONS = "      - ${validate_data.expectations}\n"


def lay_project(folder: Path) -> tuple[list[str], list[str], str]:
    """Write the project's files that are not there yet.

    Returns:
        The names of the files made, of those that were there, and the folder of images that was found, relative to the
        project; empty if none was.

    Raises:
        GraftError: if `folder` is a file or cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise GraftError(f"{folder}: is a file; a project is a folder")
    images = _images(folder)
    made: list[str] = []
    kept: list[str] = []
    for name, text in _files(images or "YOUR_IMAGES").items():
        (kept if (folder / name).exists() else made).append(name)
        if name in made:
            write_text(folder / name, text)
    return made, kept, images


def _files(images: str) -> dict[str, str]:
    params = (home() / "params.yaml").read_text(encoding="utf-8")
    params = params.replace("source: data/digits  #", f"source: {images}  #")
    return {
        "params.yaml": params.replace('make run PARAMS="', 'graft run --params "'),
        "dvc.yaml": _dvc_yaml((home() / "dvc.yaml").read_text(encoding="utf-8")),
        "Makefile": MAKEFILE,
        ".gitignore": GITIGNORE,
        ".github/workflows/graft.yml": WORKFLOW.replace("DATA", images),
    }


def _dvc_yaml(own: str) -> str:
    """Return the repository's graph for an installed Graft: its code is a package, not files of the project."""
    text = _CODE.sub("", own).replace(_EXPECTATIONS, "")
    text = re.sub(r"python -m components\.(\w+)\.step", r"graft step \1", text)
    return _COMMENT.sub(
        "# The pipeline for DVC: `graft repro` runs what changed; the parameters are in params.yaml.\n", text
    )


def _images(folder: Path) -> str:
    """Return the only folder in the project that holds folders, and so may hold classes; empty if there is none."""
    if not folder.is_dir():
        return ""
    inner = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    found = [path.name for path in inner if any(one.is_dir() for one in path.iterdir())]
    return found[0] if len(found) == 1 else ""
