"""The runs whose pages the guides show: `python -m tests.support.guide_runs FOLDER`.

They run in FOLDER with the commands that a user types, on the demo and on the sets in the folder GRAFT_SHARED. A run
that is there already is not repeated. `tests.support.screenshots` then takes the pictures.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCANNED = "data/scanned_digits"
RUNS: Mapping[str, str] = {
    "data/digits": "graft demo",
    SCANNED: "graft.demo.scanned_digits",
    "demo/report.html": "graft run data/digits --out demo",
    "predicted/drift.html": f"graft predict {SCANNED}/images --out predicted --to-label 24",
    "adapted/adaptation.html": f"graft adapt {SCANNED}/images --check {SCANNED}/check.csv --out adapted "
    "--params adapt.domain=scanned_digits",
    "small/report.html": "graft run data/digits --out small "
    "--params 'fine_tune.enabled=false evaluate.random_init=false'",
    "comparison.html": "graft report demo small --out comparison.html",
    "photos/validation/data.html": "graft validate {shared}/hymenoptera --out photos/validation",
    "masks/report.html": "graft run {shared}/human_seg --out masks --params validate_data.task=segment",
    "objects/report.html": "graft run {shared}/nuts_coco --out objects --params validate_data.task=instances",
}
"""Commands by the page or folder that they make."""


def main() -> None:
    """Run what is missing."""
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    shared = Path(os.environ.get("GRAFT_SHARED", ROOT.parent / "shared")).absolute() / "data"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "GRAFT_CACHE": str(folder / "cache")}
    for made, command in RUNS.items():
        if not (folder / made).exists():
            print(command, flush=True)
            words = shlex.split(command.format(shared=shared))
            subprocess.run([sys.executable, "-m", *words], cwd=folder, env=environment, check=True)


if __name__ == "__main__":
    main()
