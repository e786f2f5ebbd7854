from pathlib import Path

import pytest

from graft.core.errors import ParamsError
from graft.params.params import Params
from graft.params.run_settings import PRESETS, RunSettings, load_run


def written(folder: Path, text: str) -> Path:
    file = folder / "params.yaml"
    file.write_text(text)
    return file


def test_a_preset_sets_what_nobody_has_set(tmp_path: Path) -> None:
    file = written(tmp_path, "preset: quick\nevaluate:\n  bootstrap: 200\ntrain_head:\n  head: mlp\n")
    params, settings = load_run(file, ["evaluate.explain=true"])
    assert settings.preset == "quick"
    assert not params.fine_tune.enabled
    assert params.train_head.head == "mlp"  # the file says so
    assert params.evaluate.explain  # the command line says so, though it is the default
    assert not params.evaluate.learning_curve
    assert params.evaluate.bootstrap == 200


def test_the_command_line_counts_more_than_the_file(tmp_path: Path) -> None:
    params, settings = load_run(written(tmp_path, "preset: quick\nbudget: 1h\n"), ["preset=best", "budget=90s"])
    assert settings.seconds == 90.0
    assert params.extract_features.backbone == "auto"
    assert params.fine_tune.enabled


def test_the_balanced_preset_is_the_defaults(tmp_path: Path) -> None:
    assert load_run(written(tmp_path, "{}")) == (Params(), RunSettings())


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_made_of_valid_values(tmp_path: Path, preset: str) -> None:
    params, _ = load_run(written(tmp_path, f"preset: {preset}"))
    Params.model_validate(params.model_dump())
    if preset != "balanced":
        assert params != Params()


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        ("preset: fast", [], "preset='fast': input should be 'quick', 'balanced' or 'best'"),
        ("{}", ["preset=fast"], "PARAMS: preset='fast'"),
        ("{}", ["budget=5 minutes"], "PARAMS: budget='5 minutes'"),
        ("budget: 5", [], "params.yaml: budget='5'"),
        ("bugdet: 5m", [], "unknown parameter 'bugdet'"),
    ],
)
def test_a_wrong_value_is_one_line(tmp_path: Path, text: str, words: list[str], message: str) -> None:
    with pytest.raises(ParamsError) as caught:
        load_run(written(tmp_path, text), words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_who_reads_only_sections_does_not_mind_the_settings(tmp_path: Path) -> None:
    file = written(tmp_path, "preset: quick\nbudget: 5m\n")
    assert Params.load(file) == Params()
