"""Odd environments: the first steps run as they do elsewhere, and write the same."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import Count
from tests.support.pictures import MakeImages

WORK = """
import json, sys
from pathlib import Path
import pathlib, time
if sys.argv[3] == "clock":
    # Back by ten years while it runs.
    real, began = time.time, time.time()
    time.time = lambda: real() - (3.15e8 if real() - began > 0.2 else 0)
from components.get_data.step import get_data
from components.validate_data.step import validate_data
data, out = Path(sys.argv[1]), Path(sys.argv[2])
get_data.run(params={"source": str(data)}, metrics=out / "get.json", raw=out / "raw")
validate_data.run(params={}, metrics=out / "validate.json", raw=out / "raw", dataset=out / "dataset", page=out / "page")
print(json.loads((out / "dataset" / "dataset.json").read_text(encoding="utf-8"))["digest"])
"""
PROXIES = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


Environment = tuple[dict[str, str], Callable[[], object] | None]
ODD: dict[str, Environment] = {
    "HOME that cannot be written": ({"HOME": "/proc/nowhere"}, None),
    "umask 077": ({}, lambda: os.umask(0o077)),
    "64 file descriptors": ({}, few_descriptors),
    "proxies": (PROXIES, None),
    "LANG=C": ({"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": ""}, None),
    "TZ": ({"TZ": "Pacific/Kiritimati"}, None),
}


def all_of_them() -> Environment:
    def before() -> None:
        for _, one in ODD.values():
            if one:
                one()

    return {name: text for variables, _ in ODD.values() for name, text in variables.items()}, before


@pytest.fixture
def expected(image_folder: MakeImages, tmp_path: Path) -> Path:
    return image_folder({"train": {"Katze ä": 6, "dog": 6}, "test": {"Katze ä": 3, "dog": 3}})


def test_the_same_digest_in_every_environment(
    root: Path, tmp_path: Path, expected: Path, store: Path, count: Count, scale: int
) -> None:
    """All of them at once; each alone, too, in `make soak`."""
    environments: dict[str, Environment] = {"none": ({}, None), "clock": ({}, None), "all": all_of_them()}
    found, tried = {}, len(ODD) + 1
    for name, (variables, before) in (environments | (ODD if scale > 1 else {})).items():
        command = [sys.executable, "-c", WORK, str(expected), str(tmp_path / name), name]
        done = subprocess.run(
            command,
            cwd=root,
            env=os.environ | variables,
            preexec_fn=before,
            capture_output=True,
            text=True,
            check=False,
        )
        found[name] = done.stdout.strip() if done.returncode == 0 else done.stderr[-500:]
    assert len(found["none"]) == 64, found["none"]
    print(json.dumps(found, indent=1))
    same = [name for name, digest in found.items() if digest == found["none"]]
    count("an odd environment", tried, tried if len(same) == len(found) else 0)
