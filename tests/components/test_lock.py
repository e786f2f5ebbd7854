"""What `make setup` installs: every package locked with hashes, for every platform."""

import re
import tomllib
from pathlib import Path

from components.lock import EXTRAS, TORCH
from tests.components.test_images import canonical, pins, required

LINE = re.compile(r"(?P<name>[a-z0-9.-]+)==(?P<version>\S+)( ; (?P<marker>[^#]+?))?( --hash=sha256:[0-9a-f]{64})+")
PLATFORMS = ("sys_platform", "platform_", "implementation_name")


def locked(root: Path) -> dict[str, re.Match[str]]:
    lines = (root / "components" / "requirements-setup.txt").read_text().splitlines()[1:]
    found = [LINE.fullmatch(line) for line in lines]
    assert all(found), [line[:80] for line, match in zip(lines, found, strict=True) if not match]
    return {canonical(match["name"]): match for match in found if match}


def test_locked_versions_are_the_pinned_ones(root: Path) -> None:
    """What has no pin is for another platform, or follows from torch."""
    pinned = pins(root)
    for name, line in locked(root).items():
        if name in pinned:
            assert line["version"] == pinned[name], f"{name}: make lock writes the pinned version into the lock file"
        else:
            of_a_platform = any(word in (line["marker"] or "") for word in PLATFORMS)
            assert of_a_platform or name.startswith(TORCH), f"{name}: pin it in constraints.txt"


def test_every_requirement_of_setup_is_locked(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = required(project["dependencies"])
    for extra in EXTRAS:
        wanted |= required(project["optional-dependencies"][extra])
    missing = wanted - set(locked(root)) - {canonical(project["name"])}
    assert not missing, f"make lock writes {missing} into the lock file"


def test_the_lock_is_for_more_platforms_than_this_one(root: Path) -> None:
    found = locked(root)
    assert found["numpy"][0].count("--hash") > 20  # the files of several systems, processors and Pythons
    assert found["torch"][0].count("--hash") > 5
    assert "sys_platform == 'win32'" in found["pywin32"]["marker"]


def test_setup_installs_nothing_without_a_hash_but_torch_from_an_index_of_its_own(root: Path) -> None:
    recipe = (root / "Makefile").read_text().partition("$(STAMP):\n")[2].partition("\n\n")[0]
    installs = re.findall(r"^\s*(?:if .*then )?pip (?!.*install)(.*?);", recipe, re.MULTILINE)
    assert installs
    for options in installs:
        assert "--require-hashes" in options or "$(TORCH_INDEX)" in options or options == "-e .", options
