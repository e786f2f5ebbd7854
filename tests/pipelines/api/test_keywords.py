from pathlib import Path

import pytest

from graft.core.errors import ParamsError
from graft.params.params import Params
from graft.params.train_head import TrainHeadParams
from pipelines.api.keywords import asked_params


def test_keywords_are_the_parameters_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(
        "train_head:\n  folds: 4\n  source_labels: {ants: ant}\nvalidate_data:\n  thresholds:\n    shift: 0.7\n"
    )
    sections = {
        "train_head": {"head": "linear", "source_labels": {"bees": "bee"}},
        "validate_data": {"thresholds": {"min_side": 8}},
    }
    params, settings = asked_params(sections, {"budget": "5m", "preset": None}, tmp_path / "photos", file)
    assert params.train_head.folds == 4
    assert params.train_head.head == "linear"
    assert params.train_head.source_labels == {"bees": "bee"}  # a mapping is one value
    assert params.validate_data.thresholds.shift == 0.7  # a section in a section is not
    assert params.validate_data.thresholds.min_side == 8
    assert params.get_data.source == str(tmp_path / "photos")
    assert settings.budget == "5m"


def test_a_section_object_says_only_what_was_set(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("train_head:\n  folds: 4\n")
    params, _ = asked_params({"train_head": TrainHeadParams(seed=3)}, {}, file=file)
    assert (params.train_head.folds, params.train_head.seed) == (4, 3)


def test_without_a_file_the_defaults_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert asked_params({}, {})[0] == Params()
    with pytest.raises(ParamsError, match="no such file"):
        asked_params({}, {}, file="own.yaml")


@pytest.mark.parametrize(
    ("sections", "settings", "message"),
    [
        ({"train_head": {"haed": "linear"}}, {}, "keyword: unknown parameter 'train_head.haed': did you mean 'head'?"),
        ({"train_head": {"folds": 1}}, {}, "keyword: train_head.folds=1: "),
        ({"train_head": "linear"}, {}, "keyword: train_head='linear': expected a dict of fields"),
        ({}, {"preset": "fast"}, "keyword: preset='fast': "),
        ({}, {"budget": "soon"}, "keyword: budget='soon': "),
    ],
)
def test_a_wrong_keyword_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sections: dict[str, object], settings: dict[str, str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamsError) as caught:
        asked_params(sections, settings)  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
