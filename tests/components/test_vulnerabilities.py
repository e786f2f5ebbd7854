"""What `make audit` says of known vulnerabilities: never that there are none if nobody was asked."""

import json
import sys
from pathlib import Path

import pytest

from components.vulnerabilities import look_for_vulnerabilities

KNOWN = {"id": "PYSEC-1", "fix_versions": ["2.1"], "aliases": [], "description": "many\nlines"}


def says(folder: Path, output: str, error: str = "", code: int = 0) -> list[str]:
    """Return the command of a pip-audit that says this."""
    tool = folder / "pip_audit.py"
    tool.write_text(f"import sys\nprint({output!r})\nprint({error!r}, file=sys.stderr)\nsys.exit({code})\n")
    return [sys.executable, str(tool)]


def test_what_is_known_is_one_line_each(tmp_path: Path) -> None:
    packages = [
        {"name": "a", "version": "1.0", "vulns": [KNOWN, {"id": "PYSEC-2", "fix_versions": []}]},
        {"name": "b", "version": "2.0", "vulns": []},
        {"name": "own", "skip_reason": "not on PyPI"},
    ]
    found = look_for_vulnerabilities(says(tmp_path, json.dumps({"dependencies": packages}), code=1))
    assert found.summary == "2 known in 2 packages; it does not know 1 others"
    assert found.known == ("a 1.0: PYSEC-1, fixed in 2.1", "a 1.0: PYSEC-2, without a fix yet")


def test_none_are_known(tmp_path: Path) -> None:
    packages = [{"name": "a", "version": "1.0", "vulns": []}]
    assert look_for_vulnerabilities(says(tmp_path, json.dumps({"dependencies": packages}))).summary == (
        "none known in 1 packages"
    )


def test_a_service_that_knows_no_package_has_not_looked(tmp_path: Path) -> None:
    """Behind an index that has files alone, pip-audit skips every package and is content."""
    packages = [{"name": "a", "skip_reason": "Dependency not found on PyPI"}]
    found = look_for_vulnerabilities(says(tmp_path, json.dumps({"dependencies": packages})))
    assert found == ("not looked for: the service of pip-audit knows none of the 1 packages", ())


@pytest.mark.parametrize("output", ["", "{}", "null", "[]"])
def test_a_service_that_cannot_be_reached_is_one_line(tmp_path: Path, output: str) -> None:
    error = "Traceback\n  requests.exceptions.ProxyError: cannot connect"
    found = look_for_vulnerabilities(says(tmp_path, output, error, code=1))
    assert found.summary == (
        "not looked for, since the service of pip-audit does not answer "
        "(requests.exceptions.ProxyError: cannot connect)"
    )


def test_without_the_tool_it_says_how_to_get_it(tmp_path: Path) -> None:
    assert look_for_vulnerabilities([str(tmp_path / "none")]).summary == "not looked for (pip-audit: FileNotFoundError)"
