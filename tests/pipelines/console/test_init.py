"""`graft init`: the files of a project, and that they work."""

from pathlib import Path

import yaml
from typer.testing import CliRunner

from graft.params.params import Params
from pipelines.cli import app


def init(folder: Path) -> str:
    done = CliRunner().invoke(app, ["init", str(folder)])
    assert done.exit_code == 0, done.output
    return done.output


def test_a_project_is_laid_beside_the_images(tmp_path: Path, root: Path) -> None:
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "Makefile").write_text("mine:\n")
    told = init(tmp_path)
    assert f"kept  {tmp_path}/Makefile, which was there already" in told
    assert told.splitlines()[-1] == f"next  cd {tmp_path} && graft run"
    assert (tmp_path / "Makefile").read_text() == "mine:\n"
    assert Params.load(tmp_path / "params.yaml").get_data.source == "photos"
    assert "graft validate photos" in (tmp_path / ".github/workflows/graft.yml").read_text()
    ignored = (tmp_path / ".gitignore").read_text().splitlines()
    assert {"/outputs/", "/.graft/", "/.graft-cache/"} <= set(ignored)

    # The graph is that of the repository, without its code.
    own = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    laid = yaml.safe_load((tmp_path / "dvc.yaml").read_text())["stages"]
    assert list(laid) == list(own)
    for name, stage in laid.items():
        assert stage["cmd"].startswith(f"graft step {name} --")
        assert stage["outs"] == own[name]["outs"]
        assert not [one for one in stage["deps"] if str(one).startswith(("graft/", "components/"))]


def test_without_images_it_says_what_is_missing(tmp_path: Path) -> None:
    told = init(tmp_path / "new")
    assert told.splitlines()[-1] == f"next  cd {tmp_path}/new && graft run YOUR_IMAGES"
    again = init(tmp_path / "new")
    assert "made" not in again


def test_a_file_is_no_project(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(app, ["init", str(tmp_path / "file")])
    assert done.exit_code == 1
    assert "is a file; a project is a folder" in done.output


def test_every_command_has_help_and_an_example() -> None:
    from pipelines.cli import COMMANDS

    for one in COMMANDS:
        name = one.name or one.function.__name__
        done = CliRunner().invoke(app, [name, "--help"])
        assert done.exit_code == 0
        assert f"Example: graft {name}" in done.output
        assert one.example.split()[1] == name
    shown = CliRunner().invoke(app, ["--help"]).output
    assert "Exit codes: 0 done" in shown
