"""Names that differ only in form."""

import unicodedata

import pytest

from graft.core.text_forms import form_key, look_alikes, one_form


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("7", "07"),
        ("7", "7.0"),
        ("7", "+7"),
        (".5", "0.50"),
        ("cat", "Cat "),
        ("sea  lion", "Sea Lion"),
        ("café", unicodedata.normalize("NFD", "café")),
        ("STRASSE", "straße"),
        ("cat", "cat\u200b"),
        ("cat", "\uff43\uff41\uff54"),
        ("fish", "\ufb01sh"),
        ("t-shirt", "t\u2011shirt"),
        ("sea_lion", "Sea Lion"),
        ("2024-01-31", "2024_01_31"),
    ],
)
def test_one_name(first: str, second: str) -> None:
    assert form_key(first) == form_key(second)
    assert look_alikes([first, second, "another"]) == [tuple(sorted((first, second)))]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("7", "-7"),
        ("7", "70"),
        ("1_0", "10"),
        ("nan", "NA"),
        ("1e3", "1000"),
        ("é", "e"),
        ("", "0"),
        ("a-b", "ab"),
        ("x-", "x"),
    ],
)
def test_two_names(first: str, second: str) -> None:
    assert form_key(first) != form_key(second)
    assert look_alikes([first, second]) == []


def test_forms_of_an_accent() -> None:
    assert one_form(unicodedata.normalize("NFD", "Ångström")) == "Ångström"
