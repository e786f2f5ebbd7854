"""The commands that people are told to type exist, and say what is wrong in one line."""

import re
import subprocess
from pathlib import Path

import pytest

DOCUMENTED = ["README.md", *(f"docs/{path.name}" for path in (Path(__file__).parents[2] / "docs").glob("*.md"))]


def targets(root: Path) -> dict[str, str]:
    """Every target of the Makefile with what `make help` says of it."""
    return dict(re.findall(r"^([a-z-]+):.*?## (.+)$", (root / "Makefile").read_text(), re.MULTILINE))


def make(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=root, capture_output=True, text=True, check=False)


def test_help_explains_every_target(root: Path) -> None:
    text = (root / "Makefile").read_text()
    phony = set(re.findall(r"^\.PHONY: (.+)$", text, re.MULTILINE))
    assert phony == set(targets(root))
    shown = make(root, "help").stdout
    for target, explanation in targets(root).items():
        assert f"make {target}" in shown
        assert explanation in shown


@pytest.mark.parametrize("document", DOCUMENTED)
def test_every_make_target_in_a_document_exists(root: Path, document: str) -> None:
    text = (root / document).read_text()
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))
    assert set(re.findall(r"\bmake ([a-z][a-z-]+)", code)) <= set(targets(root))


@pytest.mark.parametrize("document", DOCUMENTED)
def test_every_module_run_in_a_document_exists(root: Path, document: str) -> None:
    for module in re.findall(
        r"python -m ((?:graft|pipelines|components|benchmarks)[\w.]*)", (root / document).read_text()
    ):
        path = root.joinpath(*module.split("."))
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


@pytest.mark.parametrize("document", DOCUMENTED)
def test_every_link_to_a_file_leads_somewhere(root: Path, document: str) -> None:
    folder = (root / document).parent
    for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", (root / document).read_text()):
        assert (folder / link).exists(), link


def test_no_python_is_one_clear_line(root: Path, tmp_path: Path) -> None:
    done = make(root, "setup", "PYTHON=no-such-python", f"VENV={tmp_path}/venv")
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(lines) == 1
    assert lines[0].startswith("setup: no Python 3.11 or newer with venv found (looked for no-such-python)")


def test_the_environment_goes_stale_with_the_pins_and_not_with_time(root: Path, tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "components/requirements-setup.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((root / name).read_bytes())

    def would_install() -> bool:
        return "pip install" in make(tmp_path, "--dry-run", "setup").stdout

    assert would_install()
    stamp = re.search(r"touch (\S+)", make(tmp_path, "--dry-run", "setup").stdout)
    assert stamp
    (tmp_path / stamp[1]).parent.mkdir()
    (tmp_path / stamp[1]).touch()
    assert not would_install()
    (tmp_path / "constraints.txt").touch()
    assert not would_install()
    with (tmp_path / "constraints.txt").open("a") as file:
        file.write("one-more==1\n")
    assert would_install()
