"""What pip-audit knows of the installed packages: known vulnerabilities, or why nobody was asked."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

PATIENCE_SECONDS = 600


class Answer(NamedTuple):
    """What a look for known vulnerabilities found."""

    summary: str
    """One line."""
    known: tuple[str, ...] = ()
    """One line for each known vulnerability."""


def look_for_vulnerabilities(command: Sequence[str] | None = None) -> Answer:
    """Ask pip-audit about the packages of this environment.

    Args:
        command: of pip-audit; None: the one beside this Python, or on the path.
    """
    command = command or _command()
    if not command:
        return Answer("not looked for (pip install pip-audit)")
    asked = [*command, "--progress-spinner", "off", "--format", "json"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Answer(f"not looked for (pip-audit: {type(error).__name__})")
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        return Answer(f"not looked for, since the service of pip-audit does not answer ({lines[-1].strip()[:200]})")
    return _answer(packages)


def _answer(packages: Sequence[dict[str, Any]]) -> Answer:
    asked = [one for one in packages if "skip_reason" not in one]
    known = tuple(
        f"{one['name']} {one['version']}: {found['id']}{_fixed(found)}" for one in asked for found in one["vulns"]
    )
    if not asked:
        return Answer(f"not looked for: the service of pip-audit knows none of the {len(packages)} packages")
    left = len(packages) - len(asked)
    beside = f"; it does not know {left} others" if left else ""
    return Answer(f"{len(known) or 'none'} known in {len(asked)} packages{beside}", known)


def _fixed(found: dict[str, Any]) -> str:
    versions = found.get("fix_versions") or []
    return f", fixed in {' and '.join(versions)}" if versions else ", without a fix yet"


def _command() -> list[str] | None:
    beside = Path(sys.executable).with_name("pip-audit")
    found = str(beside) if beside.exists() else shutil.which("pip-audit")
    return [found] if found else None
