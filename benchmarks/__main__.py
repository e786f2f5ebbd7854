"""python -m benchmarks [NAME ...]: measure, save the numbers, write the table."""

import argparse
import os
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from benchmarks.data import ROOT
from benchmarks.measure import Result, save
from benchmarks.table import TITLES, write_table

NUMBERS, PAGE = ROOT / "docs" / "benchmarks.json", ROOT / "docs" / "benchmarks.md"
MODULES = {
    "run_demo": "whole_runs",
    "run_photos": "whole_runs",
    "run_few": "whole_runs",
    "many_classes": "whole_runs",
    "validation": "validation",
    "near_duplicates": "validation",
    "decode": "kernels",
    "forward": "kernels",
    "extraction": "kernels",
    "loops": "loops",
    "staged": "staged",
    "frozen_epoch": "peers",
    "fine_tuning": "peers",
    "reruns": "reruns",
    "memory": "reruns",
    "serving": "serving",
    "accuracy": "accuracy",
    "choices": "choices",
    "tuning": "tuning",
    "backbones": "accuracy",
}


def main() -> None:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"benchmarks to run ({', '.join(TITLES)}); default: all")
    parser.add_argument("--rounds", type=int, default=5, help="how often each candidate runs (5)")
    options = parser.parse_args()
    unknown = set(options.names) - TITLES.keys()
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(TITLES)}")
    for name in options.names or TITLES:
        with tempfile.TemporaryDirectory(prefix="graft-bench-") as folder:
            os.environ["GRAFT_CACHE"] = f"{folder}/cache"  # nothing from earlier runs, nothing left behind
            benchmark: Callable[[Path, int], list[Result]] = getattr(import_module(f"benchmarks.{MODULES[name]}"), name)
            print(f"{name}: {(benchmark.__doc__ or '').splitlines()[0]}", flush=True)
            results = benchmark(Path(folder), options.rounds)
        for result in results:
            print(f"  {result.what}: {result.value.median:.3g} {result.unit} {result.goal} {result.note}", flush=True)
        save(NUMBERS, name, results, options.rounds)
        write_table(NUMBERS, PAGE)


if __name__ == "__main__":
    main()
