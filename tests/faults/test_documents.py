"""The table of the documents is made from counts, and the list of licences has a reason for each."""

import json

from components.audit import REVIEWED, bill_of_materials, questions
from tests.faults.mutants import MUTANTS, ROOT
from tests.faults.table import BLOCK, PAGE, known, merged, rows, table


def test_counts_of_one_fault_are_added() -> None:
    entries = [{"fault": "a", "tried": 2, "survived": 2}, {"fault": "b", "tried": 1, "survived": 0}]
    found = rows([json.dumps(entry) for entry in (*entries, entries[0])])
    assert found == {"a": (4, 4), "b": (1, 0)}
    assert table(found).splitlines()[2:] == ["| a | 4 | 4 | 0 |", "| b | 1 | 0 | 1 |", "| **all** | 5 | 4 | 1 |"]


def test_a_short_run_does_not_hide_a_long_one_unless_it_loses() -> None:
    assert known(f"<!-- faults -->\n{table({'a': (4000, 4000)})}<!-- /faults -->") == {"a": (4000, 4000)}
    before = {"a": (4000, 4000), "b": (9, 8)}
    assert merged(before, {"a": (4, 4), "b": (1, 1), "c": (1, 1)}) == {"a": (4000, 4000), "b": (1, 1), "c": (1, 1)}
    assert merged(before, {"a": (4, 3)})["a"] == (4, 3)


def test_the_documents_hold_a_table_in_which_nothing_is_lost() -> None:
    found = BLOCK.search(PAGE.read_text(encoding="utf-8"))
    assert found
    body = [line.split("|")[1:-1] for line in found[0].splitlines() if line.startswith("|")][2:]
    assert body
    assert all(row[-1].strip() == "0" for row in body)


def test_every_guard_is_where_the_list_says() -> None:
    assert len(MUTANTS) >= 20
    for mutant in MUTANTS:
        assert mutant.old in (ROOT / mutant.file).read_text(encoding="utf-8"), mutant.guard
        assert (ROOT / mutant.test.partition("::")[0]).is_file()


def test_a_licence_that_nobody_has_looked_at_is_a_question() -> None:
    assert list(questions({"new": "GNU Affero General Public License v3", "plain": "MIT License"})) == [
        "new: GNU Affero General Public License v3: look at it, and write into components/audit.py why it may be used"
    ]
    assert not list(questions(dict.fromkeys(REVIEWED, "GPL-2.0")))


def test_the_bill_of_materials_has_the_licence_of_every_package() -> None:
    bill = {one["name"]: one for one in bill_of_materials()["components"]}
    assert bill["grandalf"]["description"].startswith("GPLv2 or EPL-1.0")
    assert "linking exception" in bill["pygit2"]["description"]
    assert all(one["licenses"][0]["license"]["name"] for one in bill.values())
