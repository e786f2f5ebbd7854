"""Every promise holds, and the table in docs/evaluation.md lists them all."""

import re
from pathlib import Path

import pytest

from tests.truth.promise import Promise
from tests.truth.table import BLOCK, FILES, HEAD, PAGE, promises, row

ALL = tuple(promises())


@pytest.mark.parametrize("promise", ALL, ids=lambda promise: f"{promise.says}, {promise.tried}")
def test_a_promise_holds(promise: Promise) -> None:
    rate = promise.rate()
    assert promise.least <= rate <= promise.most


def test_every_file_of_promises_is_in_the_table() -> None:
    found = {file.stem for file in Path(__file__).parent.glob("*.py") if "\nPROMISES = (" in file.read_text()}
    assert found == {*FILES}


def test_the_table_in_the_documents_is_of_these_promises() -> None:
    table = BLOCK.search(PAGE.read_text(encoding="utf-8"))
    assert table, f"{PAGE.name} has no table of promises"
    lines = table[0].removeprefix(HEAD).splitlines(keepends=True)
    rates = [float(re.findall(r"([\d.]+) % \|$", line.strip())[0]) / 100 for line in lines]
    assert lines == [row(promise, rate) for promise, rate in zip(ALL, rates, strict=True)], (
        "python -m tests.truth.table"
    )
    for promise, rate in zip(ALL, rates, strict=True):
        assert promise.least - 5e-4 <= rate <= promise.most + 5e-4, promise.says
