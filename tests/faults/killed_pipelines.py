"""Kill whole pipelines at seeded moments, run each again, and say what the rerun left.

    python -m tests.faults.killed_pipelines DATA FOLDER WARM COLD [SEED]

This process imports what an undisturbed run has imported, once. Every run, and the server that starts its steps, is
forked from it, so that a try takes seconds. WARM runs are killed on one store, which has an earlier run; COLD ones on a
new store each. Prints one line of JSON per try; the folder of a try that went wrong stays.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import warnings
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from graft.params.checking import validate_values
from graft.params.params import Params
from graft.runs.mlflow_store import open_client
from pipelines.local import warm, warm_server
from pipelines.local.execution import STEPS, execute
from tests.faults.kills import forked, left

NAME = "killed"
VALUES: dict[str, dict[str, Any]] = {
    "extract_features": {"backbone": "test_resnet", "weights": "none", "image_size": 32, "batch_size": 16},
    "train_head": {"head": "linear", "reuse_depth": "last"},
    "fine_tune": {"enabled": False},
    "evaluate": {"bootstrap": 100, "random_init": False, "explain": False, "learning_curve": False},
    "register_model": {"max_milliseconds": 1e6, "name": NAME},
}
RESULTS = ("model", "review", "validation")
WITH_IDS = ("validation/results.json", "validation/SHA256SUMS")
"""Great Expectations gives each check of each run an id and a time."""
PACKAGES = (
    "alembic", "filelock", "fsspec", "graft", "great_expectations", "kfp", "matplotlib", "mlflow", "networkx", "numpy",
    "pandas", "pyarrow", "scipy", "sklearn", "sqlalchemy", "sympy", "torch", "torchvision", "mpmath",
)  # fmt: skip
"""What is imported early, if a run imports it."""
OF_ONE_RUN = ("seconds", "mlflow", "reused_steps", "model")
"""What differs between the summaries of two undisturbed runs."""


class ForkedServer(warm._Server):
    """The server of the steps as a fork of this process, which has imported what it would import."""

    def _launch(self) -> socket.socket:
        self._channel, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            self._channel.close()
            null = os.open(os.devnull, os.O_RDWR)
            for standard in (0, 1, 2):
                os.dup2(null, standard)
            _serve(theirs)
        theirs.close()
        self._process = _Child(child)  # type: ignore[assignment]
        return self._channel


class Imported:
    """The modules that processes of a run had when they ended, in a file."""

    file: ClassVar[Path | None] = None

    @classmethod
    def note(cls) -> None:
        """Add those of this process, if anybody asks."""
        if cls.file:
            with cls.file.open("a", encoding="utf-8") as file:
                file.write("".join(f"{name}\n" for name in list(sys.modules)))

    @classmethod
    def imported_here_too(cls) -> None:
        """Import them, and ask no more."""
        assert cls.file
        noted, cls.file = dict.fromkeys(cls.file.read_text(encoding="utf-8").split()), None
        for name in noted:
            if name.partition(".")[0] in PACKAGES:
                with suppress(Exception), warnings.catch_warnings(action="ignore"):
                    warm_server.import_module(name)


class _Child:
    def __init__(self, number: int) -> None:
        self._number = number

    def kill(self) -> None:
        os.kill(self._number, signal.SIGKILL)

    def wait(self) -> None:
        os.waitpid(self._number, 0)


def _serve(channel: socket.socket) -> None:
    """Do what `pipelines.local.warm_server` does as a command."""
    asked = warm_server.serve(channel, STEPS)
    if asked is None:
        os._exit(0)
    try:
        warm_server.run(asked)
    except BaseException as error:
        warm_server.end(error)
    Imported.note()
    warm_server.end(None)


def run(data: Path, out: Path) -> None:
    """Run the pipeline as `graft run` does."""
    execute(validate_values(Params, {"get_data": {"source": str(data)}, **VALUES}, where="the test"), out)
    Imported.note()


def results(out: Path) -> dict[str, str]:
    """Return the digest of each file that a run leaves, and what its summary says; times, ids and versions apart."""
    files = [file for part in RESULTS for file in sorted((out / part).rglob("*")) if file.is_file()]
    found = {file.relative_to(out).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    found["summary.json"] = json.dumps({name: value for name, value in summary.items() if name not in OF_ONE_RUN})
    return {name: value for name, value in found.items() if name not in WITH_IDS}


def versions() -> int:
    """Return how many versions the store has."""
    return len(open_client().search_model_versions(f"name = '{NAME}'"))


def settle(place: Path, store: Path) -> None:
    """Make this process and its children use a store, and the try's own cache and folder for temporary files."""
    (place / "tmp").mkdir(parents=True)
    os.environ |= {
        "MLFLOW_TRACKING_URI": f"sqlite:///{store}/mlflow.db",
        "GRAFT_CACHE": str(place / "cache"),
        "TMPDIR": str(place / "tmp"),
    }
    tempfile.tempdir = None  # it is looked up again


def attempt(data: Path, place: Path, log: Path, moment: float, wanted: dict[str, str]) -> dict[str, Any]:
    """Kill a run at a moment, run it again, and return what that left; no faults: it went well."""
    work = partial(run, data, place / "out")
    before = 0 if place.name.startswith("cold") else versions()
    code, first = forked(work, log, kill_after=moment)
    again, second = forked(work, log)
    said = {"try": place.name, "moment": moment, "killed": code == -9, "seconds": [first, second]}
    if again != 0:
        return {**said, "faults": [f"the rerun ended with {again}"]}
    found = results(place / "out")
    faults = [f"{name} differs" for name in sorted(wanted | found) if wanted.get(name) != found.get(name)]
    faults += left(place)
    if (made := versions() - before) != 1:
        faults.append(f"{made} versions instead of one")
    return {**said, "faults": faults}


def main() -> None:
    """Try it."""
    data, folder, warm_tries, cold_tries = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    for name in warm_server.modules(STEPS):
        warm_server.import_module(name)
    warm._Server = ForkedServer  # type: ignore[misc]
    generator, log, store = random.Random(" ".join(sys.argv[5:])), folder / "log", folder / "store"
    settle(folder / "plain", store)
    Imported.file = folder / "modules"
    code, seconds = forked(partial(run, data, folder / "plain" / "out"), log)
    if code:
        sys.exit(log.read_text(encoding="utf-8"))
    Imported.imported_here_too()
    wanted = results(folder / "plain" / "out")
    open_tries = {"warm": warm_tries, "cold": cold_tries}
    for number in range(2 * (warm_tries + cold_tries)):
        kind = next((kind for kind, tries in open_tries.items() if tries), None)
        if kind is None:
            break
        place, spent = folder / f"{kind}-{number}", sum(os.times()[2:4])
        settle(place, place / "store" if kind == "cold" else store)
        said = attempt(data, place, log, generator.uniform(0.01, 1.02) * seconds, wanted)
        said["cpu"] = sum(os.times()[2:4]) - spent
        print(json.dumps(said), flush=True)
        open_tries[kind] -= said["killed"]  # a run may end before its moment
        first, second = said["seconds"]
        seconds = max(seconds, second) if said["killed"] else first  # other work may slow the machine, and end
        if not said["faults"]:
            shutil.rmtree(place)


if __name__ == "__main__":
    main()
