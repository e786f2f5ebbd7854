"""Every test here injects faults and counts what survived; `make test-faults` writes the counts for the documents."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

RESULTS = "GRAFT_FAULTS_RESULTS"
Count = Callable[[str, int, int], None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("faults")


@pytest.fixture(scope="session")
def scale() -> int:
    """How many times as many faults as in CI: 1, or more in `make soak`."""
    return int(os.environ.get("GRAFT_FAULTS_SCALE", "1"))


@pytest.fixture
def count(request: pytest.FixtureRequest) -> Count:
    """Record how many faults of a kind were tried and how many survived, and fail unless all did."""

    def record(fault: str, tried: int, survived: int) -> None:
        if os.environ.get(RESULTS):
            with Path(os.environ[RESULTS]).open("a", encoding="utf-8") as file:
                entry = {"fault": fault, "tried": tried, "survived": survived, "test": request.node.nodeid}
                file.write(json.dumps(entry) + "\n")
        assert tried > 0
        assert survived == tried, f"{fault}: {tried - survived} of {tried} lost"

    return record
