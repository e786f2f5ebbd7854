import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from graft.core.errors import ParamsError
from graft.params.checking import validate_values
from graft.params.overrides import read_yaml, split_overrides
from graft.params.params import Params
from graft.params.train_head import TrainHeadParams
from graft.params.yaml_values import settle


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
        ("train_head.source_labels={ants: {a: b}}", "train_head.source_labels.ants={'a': 'b'}: input should be a"),
        ("train_head.folds=2001-02-03", "train_head.folds=datetime.date(2001, 2, 3): input should be a valid integer"),
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
        ("", "expected one section per step, found nothing"),
        ("text", "expected one section per step, found str"),
        ("7", "expected one section per step, found 7"),
        ("train_head: 5", "train_head=5"),
        ("train_head: {l2: 1}\ntrain_head: {folds: 3}", "'train_head' appears twice"),
        ("train_head:\n  l2: 1\n  l2: 2", "'l2' appears twice"),
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
    assert settle(dict[str, dict[str, int]], read_yaml(tmp_path / "x.yaml")) == {"a": {"b": 1}}


TEXTS = ["12e4567", "1234567", "007", "no", "on", "12:30", "2001-02-03", "1e3", "1_000", "0x1F", "nan", ".5", "true"]


@pytest.mark.parametrize("text", TEXTS)
def test_text_stays_text_in_a_field_of_text(tmp_path: Path, text: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(
        f"get_data:\n  rev: {text}\nevaluate:\n  positive: {text}\n  slices: [{text}, b]\n"
        f"train_head:\n  source_labels: {{{text}: {text}, b: [{text}]}}\n"
    )
    written = Params.load(file)
    overridden = Params.load(
        file,
        [
            f"get_data.rev={text}",
            f"evaluate.positive={text}",
            f"evaluate.slices=[{text}, b]",
            f"train_head.source_labels={{{text}: {text}, b: [{text}]}}",
        ],
    )
    assert written == overridden
    assert (written.get_data.rev, written.evaluate.positive) == (text, text)
    assert written.evaluate.slices == (text, "b")
    assert written.train_head.source_labels == {text: text, "b": (text,)}
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(written.model_dump(mode="json")))
    assert Params.load(again) == written


@pytest.mark.parametrize("text", ["*.csv", "#1", "a: b", "[x]", "@home", "%d", "!tag", "C: x", "a,b", "-", "{}"])
def test_an_override_of_text_need_not_be_yaml(root: Path, text: str) -> None:
    params = Params.load(root / "params.yaml", [f"get_data.source={text}", f'evaluate.positive="{text}"'])
    assert (params.get_data.source, params.evaluate.positive) == (text, text)


@pytest.mark.parametrize("text", ["null", "~", "", "Null"])
def test_nothing(root: Path, text: str) -> None:
    assert Params.load(root / "params.yaml", [f"get_data.rev={text}"]).get_data.rev is None
    assert Params.load(root / "params.yaml", ['evaluate.positive="null"']).evaluate.positive == "null"
    assert Params.load(
        root / "params.yaml", [f"train_head.source_labels={{a: {text or 'null'}}}"]
    ).train_head.source_labels


def test_numbers_stay_numbers_in_a_field_of_numbers(root: Path) -> None:
    words = ["train_head.folds=010", "train_head.l2=1e-3", "evaluate.bootstrap=1_000", "fine_tune.flip=yes"]
    params = Params.load(root / "params.yaml", words)
    assert (params.train_head.folds, params.train_head.l2) == (10, 0.001)
    assert (params.evaluate.bootstrap, params.fine_tune.flip) == (1000, True)
    with pytest.raises(ParamsError, match="folds='12:30': input should be a valid integer"):
        Params.load(root / "params.yaml", ["train_head.folds=12:30"])


def test_a_section_without_fields_is_its_defaults(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("train_head:\n#  l2: 1\nevaluate: null\n")
    assert Params.load(tmp_path / "params.yaml") == Params()
    assert Params.load(tmp_path / "params.yaml", ["train_head.folds=3"]).train_head.folds == 3


@pytest.mark.parametrize(
    ("content", "overrides", "line"),
    [
        ("", ["train_head.folds=many"], "PARAMS: train_head.folds='many': input should be a valid integer"),
        ("train_head: {folds: many}", [], "{file}: train_head.folds='many': input should be a valid integer"),
        ("train_head: {folds: many}", ["evaluate.seed=x"], "{file}: train_head.folds='many': input"),
        ("train_head: {folds: many}", ["evaluate.seed=x"], "; PARAMS: evaluate.seed='x': input"),
        ("", ["train_heed.l2=1"], "PARAMS: unknown parameter 'train_heed'"),
        ("train_heed: {l2: 1}", [], "{file}: unknown parameter 'train_heed'"),
        (
            "train_head: 3",
            ["train_head.l2=1"],
            "PARAMS: 'train_head.l2=1': train_head is '3', where a section of fields",
        ),
        ("", ["train_head.l2.x=1"], "PARAMS: train_head.l2={{'x': 1}}: input should be a valid number"),
        ("", ["evaluate.slices=age"], "PARAMS: evaluate.slices='age': expected a list, such as [age]"),
        ("", ["EVALUATE.seed=3"], "PARAMS: unknown parameter 'EVALUATE': did you mean 'evaluate'?"),
        ("evaluate: {slices: [[" + "x," * 500 + "]]}", [], "...: input should be a valid string"),
        ("evaluate: " + "[" * 3000, [], "{file}: not valid YAML"),
        ("train_head: {l2: 1}", ["train_head.l2.x=1"], "train_head.l2 is '1', where a section of fields is expected"),
    ],
)
def test_a_mistake_is_named_with_where_it_is(tmp_path: Path, content: str, overrides: list[str], line: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(content or "{}")
    with pytest.raises(ParamsError) as error:
        Params.load(file, overrides)
    assert line.format(file=file) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_quote_that_is_never_closed() -> None:
    assert split_overrides("get_data.source='my photos'") == ["get_data.source=my photos"]
    with pytest.raises(ParamsError, match=r"PARAMS: .*: no closing quotation; close the quote"):
        split_overrides("get_data.source='my photos")
