"""Odd environments: the first steps run as they do elsewhere, and write the same."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults.conftest import Count
from tests.support.pictures import MakeImages

WORK = """
import json, sys, time
from pathlib import Path
if sys.argv[3] == "clock":
    # Back by ten years while it runs.
    real, began = time.time, time.time()
    time.time = lambda: real() - (3.15e8 if real() - began > 0.2 else 0)
from components.extract_features.step import extract_features
from components.get_data.step import get_data
from components.validate_data.step import validate_data
data, out = Path(sys.argv[1]), Path(sys.argv[2])
get_data.run(params={"source": str(data)}, metrics=out / "get.json", raw=out / "raw")
validate_data.run(params={}, metrics=out / "validate.json", raw=out / "raw", dataset=out / "dataset", page=out / "page")
backbone = {"backbone": "mobilenet_v3_small", "weights": "none", "image_size": 32, "workers": 2}
found = extract_features.run(
    params=backbone, metrics=out / "extract.json", dataset=out / "dataset", features=out / "features"
)
assert found["seconds"] > 0
print(json.loads((out / "dataset" / "dataset.json").read_text(encoding="utf-8"))["digest"])
print((out / "features" / "SHA256SUMS").read_text(encoding="utf-8"))
"""
PROXIES = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
SMALL_SHM = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=1m none /dev/shm && exec "$@"', "sh")
"""Runs a command where shared memory has a megabyte, as in a container that was given none."""


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


@dataclass(frozen=True)
class Environment:
    """What is odd: variables, what is called before the process begins, and words before its command."""

    variables: Mapping[str, str] = field(default_factory=dict)
    before: Callable[[], object] | None = None
    command: Sequence[str] = ()


ODD = {
    "HOME that cannot be written": Environment({"HOME": "/proc/nowhere"}),
    "umask 077": Environment(before=lambda: os.umask(0o077)),
    "64 file descriptors": Environment(before=few_descriptors),
    "proxies": Environment(PROXIES),
    "LANG=C": Environment({"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": ""}),
    "TZ": Environment({"TZ": "Pacific/Kiritimati"}),
    "a megabyte of shared memory": Environment(command=SMALL_SHM),
}


def all_of(environments: Collection[Environment]) -> Environment:
    def before() -> None:
        for one in environments:
            if one.before:
                one.before()

    variables = {name: text for one in environments for name, text in one.variables.items()}
    return Environment(variables, before, [word for one in environments for word in one.command])


def possible() -> dict[str, Environment]:
    """Return the odd environments that this user may make: only root can change the size of shared memory."""
    mounts = subprocess.run([*SMALL_SHM, "true"], capture_output=True, check=False).returncode == 0
    return {name: one for name, one in ODD.items() if mounts or not one.command}


@pytest.fixture
def expected(image_folder: MakeImages, tmp_path: Path) -> Path:
    return image_folder({"train": {"Katze ä": 6, "dog": 6}, "test": {"Katze ä": 3, "dog": 3}})


def test_the_same_results_in_every_environment(
    root: Path, tmp_path: Path, expected: Path, store: Path, count: Count, scale: int
) -> None:
    """All of them at once; each alone, too, in `make soak`."""
    odd = possible()
    environments = {"none": Environment(), "clock": Environment(), "all": all_of(odd.values())}
    found = {}
    for name, one in (environments | (odd if scale > 1 else {})).items():
        work = [sys.executable, "-c", WORK, str(expected), str(tmp_path / name), name]
        done = subprocess.run(
            [*one.command, *work], cwd=root, env=os.environ | one.variables | {"GRAFT_CACHE": "off"},
            preexec_fn=one.before, capture_output=True, text=True, check=False,
        )  # fmt: skip
        found[name] = done.stdout.strip() if done.returncode == 0 else done.stderr[-500:]
    assert found["none"][:64].isalnum(), found["none"]
    print(json.dumps(found, indent=1))
    same = [name for name, results in found.items() if results == found["none"]]
    tried = len(odd) + 1  # and the clock
    count("an odd environment", tried, tried if len(same) == len(found) else 0)
