"""Every field with every absurd value: one clear line, or a value in its range; no step gets anything else."""

import math
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import _validate_model_name
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import graft.backbones.shards  # noqa: F401 (their sections are subclasses of Section)
from graft.core.errors import ParamsError
from graft.params.checking import validate_values
from graft.params.params import Params
from graft.params.register_model import RegisterModelParams
from graft.params.section import Section
from tests.faults.conftest import Count

ABSURD: list[Any] = [
    -1, 0, -(10**30), 10**30, 2**31, 2**63, 0.0, -0.5, 1e-320, 1e308, math.nan, math.inf, -math.inf, "nan",
    "inf", "-inf",
    "", " ", "\n", "\0", "x" * 100_000, "../..", "/", "auto ", "1e999", "0x10", "1_000", True, False, None, [], [[]],
    [math.nan], [1e308] * 3, {}, {"a": {"b": 1}}, {"": ""}, "https://user:pass@host/x", "😀",
]  # fmt: skip


def sections(kind: type[Section] = Section) -> Iterator[type[Section]]:
    for inner in kind.__subclasses__():
        yield inner
        yield from sections(inner)


OF_GRAFT = sorted({one for one in sections() if one.__module__.startswith("graft.")}, key=lambda one: one.__name__)


def bounds(kind: Any, metadata: list[Any]) -> Iterator[tuple[bool, bool]]:
    """Yield for every number in a type whether it has a lowest and a highest value."""
    own = [*metadata]
    if hasattr(kind, "__metadata__"):
        for item in kind.__metadata__:
            own += item.metadata if isinstance(item, FieldInfo) else [item]
        kind = kind.__origin__
    if kind in (int, float):
        yield (
            any(hasattr(item, name) for item in own for name in ("ge", "gt")),
            any(hasattr(item, name) for item in own for name in ("le", "lt")),
        )
    for inner in get_args(kind):
        if not isinstance(inner, str | bool | int):
            yield from bounds(inner, own)


@pytest.mark.parametrize("section", OF_GRAFT, ids=lambda section: section.__name__)
def test_every_number_has_a_lowest_and_a_highest_value(section: type[Section]) -> None:
    for name, field in section.model_fields.items():
        assert all(low and high for low, high in bounds(field.annotation, field.metadata)), f"{name} has no bounds"


def numbers_in(value: Any) -> Iterator[float]:
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, bool):
        return
    if isinstance(value, int | float):
        yield float(value)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from numbers_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from numbers_in(inner)


def test_every_field_with_every_absurd_value(count: Count) -> None:
    tried = survived = 0
    for name, section in Params.model_fields.items():
        kind = section.annotation
        assert isinstance(kind, type)
        for field in kind.model_fields:
            for value in ABSURD:
                tried += 1
                try:
                    made = validate_values(Params, {name: {field: value}}, "params.yaml")
                except ParamsError as error:
                    survived += "\n" not in str(error) and f"{name}.{field}" in str(error) and "pass@" not in str(error)
                else:
                    found = list(numbers_in(getattr(getattr(made, name), field)))
                    survived += all(math.isfinite(number) and abs(number) <= 2**32 for number in found)
    count("an absurd value of a parameter", tried, survived)


@given(name=st.text(max_size=12))
def test_a_name_that_is_taken_is_one_that_mlflow_takes(name: str) -> None:
    try:
        validate_values(RegisterModelParams, {"name": name}, "params.yaml")
    except ParamsError:
        return
    _validate_model_name(name)


@pytest.mark.parametrize("name", ["", " ", "a/b", "a:b", "..", ".", "a@b", "o'hare", "a\nb", "x" * 300, "./a"])
def test_a_name_that_mlflow_or_its_addresses_do_not_take_is_refused_before_training(name: str) -> None:
    with pytest.raises(ParamsError, match=r"register_model\.name="):
        validate_values(Params, {"register_model": {"name": name}}, "params.yaml")


def test_mlflow_refuses_some_of_them_only_when_the_model_is_registered() -> None:
    for name in ("", "a/b", "..", "./a"):
        with pytest.raises(MlflowException):
            _validate_model_name(name)


@pytest.mark.parametrize(
    "url",
    [
        "https://user:s3cr3t@host/images.zip",
        "https://s3cr3t@host/x",
        "s3://KEY:s3cr3t@bucket/path",
        "ssh://git:s3cr3t@host/repo",
        "https://host/x?token=s3cr3t",
        "https://host/x?a=1&X-Amz-Signature=s3cr3t&b=2",
        "https://host/x?api_key=s3cr3t",
        "https://user:s3c/r3t@host/x",
        "https://user:s3@cr3t@host/x",
        "postgresql://user:s3cr3t@db/mlflow",
        "file=https://user:s3cr3t@host/weights.pth",
    ],
)
def test_a_password_in_any_parameter_is_refused_and_never_repeated(url: str, count: Count) -> None:
    texts = [
        (section, field)
        for section, kind in Params.model_fields.items()
        for field, info in kind.annotation.model_fields.items()  # type: ignore[union-attr]
        if "str" in str(info.annotation)
    ]
    survived = 0
    for section, field in texts:
        try:
            validate_values(Params, {section: {field: url}}, "params.yaml")
        except ParamsError as error:
            survived += "cr3t" not in str(error) and "r3t@" not in str(error)
    count("a password in a parameter", len(texts), survived)


@pytest.mark.parametrize(
    "url", ["git@host:team/repo.git", "https://host/a@2x.png", "http://host:80/a@b", "models:/a@champion"]
)
def test_what_only_looks_like_a_password_is_taken(url: str) -> None:
    assert validate_values(Params, {"get_data": {"source": url}}, "params.yaml").get_data.source == url
