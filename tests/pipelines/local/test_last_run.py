"""What a folder remembers of its last run, and which model commands take by it."""

from pathlib import Path

import pytest

from graft.core.errors import GraftError
from pipelines.default_model import default_address, default_name, last_address
from pipelines.local.last_run import last_model, last_run, record_model, record_run


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_last_model_is_taken_and_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record_model("graft-birds", 3, "challenger", folder / "outputs")
    assert last_address() == default_address() == "models:/graft-birds/3"
    assert (
        "model: models:/graft-birds/3, from the last run in this folder (results in outputs)" in capsys.readouterr().err
    )
    record_model("graft-birds", 4, "champion", folder / "outputs")
    assert default_address() == "models:/graft-birds@champion"
    assert default_name() == "graft-birds"
    assert (folder / ".graft" / ".gitignore").read_text() == "*\n"


def test_without_a_run_params_yaml_names_it(folder: Path) -> None:
    assert last_address() == ""
    with pytest.raises(GraftError, match="no run has succeeded in this folder"):
        default_address()
    (folder / "params.yaml").write_text("get_data: {source: photos/shells}\n")
    assert default_address() == "models:/graft-shells@champion"
    (folder / "params.yaml").write_text("register_model: {name: mine}\n")
    assert default_name() == "mine"


def test_a_run_that_fails_leaves_the_model_of_the_one_before(folder: Path) -> None:
    record_model("graft-birds", 3, "champion", folder / "outputs")
    record_run({"train_head": {"folds": 2}}, {"preset": "quick"}, folder / "other")
    last, model = last_run(), last_model()
    assert last is not None
    assert last.params == {"train_head": {"folds": 2}}
    assert last.settings == {"preset": "quick"}
    assert model is not None
    assert model.out == str(folder / "outputs")


def test_a_broken_record_is_none(folder: Path) -> None:
    (folder / ".graft").mkdir()
    (folder / ".graft" / "last_model.json").write_text("{")
    assert last_model() is None
    assert last_run() is None
