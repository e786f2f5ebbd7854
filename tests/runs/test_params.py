import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from graft.core.errors import ParamsError
from graft.runs.params import Params, TrainHeadParams, read_yaml, validate_values


def test_the_file_holds_the_defaults_in_the_order_of_the_steps(root: Path) -> None:
    written = yaml.safe_load((root / "params.yaml").read_text())
    defaults = Params().model_dump(mode="json")
    assert written == defaults
    assert [list(section) for section in written.values()] == [list(section) for section in defaults.values()]
    assert list(written) == list(defaults)


def test_every_field_of_the_file_has_a_comment(root: Path) -> None:
    bare = [
        line
        for line in (root / "params.yaml").read_text().splitlines()
        if re.match(r"  \w+:", line) and "#" not in line
    ]
    assert bare == []


def test_every_field_that_takes_null_defaults_to_null() -> None:
    # A missing field means its default: Kubeflow has no null, so this is how null reaches a step.
    for section in Params.model_fields.values():
        assert section.annotation is not None
        for name, field in section.annotation.model_fields.items():
            if type(None) in get_args(field.annotation):
                assert field.default is None, name


def test_sections_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        TrainHeadParams().folds = 3  # type: ignore[misc]


def test_overrides(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("train_head:\n  folds: 4\n")
    params = Params.load(
        file,
        [
            "train_head.l2=1e-3",
            "fine_tune.enabled=false",
            "get_data.repo=null",
            "extract_features.mean=[0.5, 0.5, 0.5]",
            "evaluate.positive=1",
            "train_head.source_labels={ants: ant, sports cars: [sports car, convertible]}",
        ],
    )
    assert params.train_head.source_labels == {"ants": "ant", "sports cars": ("sports car", "convertible")}
    assert params.train_head.folds == 4
    assert params.train_head.l2 == 0.001
    assert params.fine_tune.enabled is False
    assert params.get_data.repo is None
    assert params.extract_features.mean == (0.5, 0.5, 0.5)
    assert params.evaluate.positive == "1", "a label, though YAML reads a number"


def test_the_four_modes_are_valid(root: Path) -> None:
    for mode in (
        "extract_features.weights=none fine_tune.strategy=all",
        "fine_tune.enabled=false",
        "fine_tune.strategy=upper fine_tune.depth=blocks.5",
        "fine_tune.strategy=staged",
    ):
        Params.load(root / "params.yaml", mode.split())


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("train_head.fold=1", "unknown parameter 'train_head.fold': did you mean 'folds'?"),
        ("train_heed.l2=1", "unknown parameter 'train_heed': did you mean 'train_head'?"),
        (
            "train_head.thresholds.shift=0.7",
            "unknown parameter 'train_head.thresholds': did you mean 'validate_data.thresholds' or "
            "'review_features.thresholds'?",
        ),
        ("train_head.reference=x", "did you mean 'validate_data.reference' or 'review_features.reference'?"),
        ("review_features.thresholds.similar=1", "'review_features.thresholds.similar': did you mean 'similarity'?"),
        ("review_features.thresholds.epochs=1", "thresholds.epochs': known here: similarity, shift"),
        ("evaluate.zzz=1", "unknown parameter 'evaluate.zzz': known here: bootstrap"),
        ("train_head.folds=many", "train_head.folds='many': input should be a valid integer"),
        ("train_head.folds=1", "train_head.folds=1: input should be greater than or equal to 2"),
        ("train_head.head=deep", "train_head.head='deep': input should be 'auto', 'linear', 'multi_tap', 'mlp' or"),
        ("train_head.source_labels={ants: 1}", "train_head.source_labels.ants=1: input should be a valid string"),
        ("train_head.l2=strong", "train_head.l2='strong': input should be a valid number"),
        ("fine_tune.strategy=some", "fine_tune.strategy='some': input should be 'staged', 'upper', 'all' or"),
        ("train_head", "'train_head': expected section.field=value"),
        ("l2=0.1", "'l2=0.1': expected section.field=value"),
        ("train_head.l2=[", "'train_head.l2=[': the value is not valid YAML"),
    ],
)
def test_a_bad_override_is_one_clear_line(root: Path, override: str, line: str) -> None:
    with pytest.raises(ParamsError) as error:
        Params.load(root / "params.yaml", [override])
    assert line in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "no such file; it holds the parameters of every step"),
        ("a: [", "not valid YAML"),
        ("- 1", "expected one section per step, found list"),
        ("", "expected one section per step, found NoneType"),
        ("train_head: 5", "train_head=5"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, content: str | None, line: str) -> None:
    file = tmp_path / "params.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ParamsError) as error:
        Params.load(file)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_whole_numbers_may_arrive_as_floats() -> None:
    # KFP turns every number inside a dict into a float.
    assert validate_values(TrainHeadParams, {"folds": 4.0, "seed": 1.0}, where="train_head").folds == 4
    with pytest.raises(ParamsError, match=r"folds=4\.5"):
        validate_values(TrainHeadParams, {"folds": 4.5}, where="train_head")


def test_a_section_is_plain_values() -> None:
    section = Params().section("extract_features")
    assert yaml.safe_load(yaml.safe_dump(section)) == section


def test_read_yaml_keeps_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: {b: 1}")
    assert read_yaml(tmp_path / "x.yaml") == {"a": {"b": 1}}
