from pathlib import Path

import pytest
from typer.testing import CliRunner

from graft.serving.registry import CHAMPION, Registry
from pipelines.cli import app
from pipelines.console import models


@pytest.fixture
def registry(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Three versions of an empty model, the second of them champion."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "MLmodel").write_text("flavors: {}\n")
    registry = Registry.open("insects")
    for accuracy in ("0.9100", "0.9500", "0.3000"):
        registry.register(folder, {"test.accuracy": accuracy, "backbone": "resnet18"})
    registry.promote(1)
    registry.promote(2)
    registry.set_tags(3, {"verdict": "refused", "reason.1": "accuracy is too low", "reason.2": "and it is slow"})
    # Loading these empty models would fail; the tests of the registry cover this check.
    monkeypatch.setattr("graft.serving.registration.check_packed_model", lambda folder: 0.0)
    return registry


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*arguments, "--name", "insects"])
    return done.exit_code, done.output


def test_list_shows_versions_aliases_and_reasons(registry: Registry) -> None:
    code, text = run("models")
    assert code == 0
    lines = text.splitlines()
    champion = next(line for line in lines if "champion" in line)
    assert champion.split()[0] == "2"
    assert "0.9500" in champion
    assert "3: accuracy is too low" in lines
    assert "3: and it is slow" in lines


def test_promote_and_rollback_by_hand(registry: Registry) -> None:
    assert run("promote", "3") == (0, "insects: champion is version 3 (was version 2)\n")
    assert registry.version(3).tags["verdict"] == "promoted by hand"
    assert run("rollback") == (0, "insects: champion is version 2 (was version 3)\n")
    assert run("rollback") == (0, "insects: champion is version 1 (was version 2)\n")
    assert run("rollback")[0] == 1
    assert registry.champion() == registry.version(1)
    assert registry.version(1).aliases == (CHAMPION,)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("promote", "9"), "model 'insects' has no version 9; versions: 3, 2, 1"),
    ],
)
def test_errors_are_one_line(registry: Registry, arguments: tuple[str, ...], line: str) -> None:
    done = CliRunner().invoke(app, [*arguments, "--name", "insects"])
    assert done.exit_code == 1
    assert line in done.output


def test_an_empty_registry_says_what_to_do(store: Path) -> None:
    done = CliRunner().invoke(app, ["models", "--name", "insects"])
    assert done.exit_code == 1
    assert "no model 'insects'" in done.output
    assert "graft run registers one" in done.output


def test_the_default_name_is_that_in_params_yaml(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    (tmp_path / "params.yaml").write_bytes((root / "params.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)  # a folder without a last run, whose model would be the default
    assert models._registry("").name == "graft-digits"
