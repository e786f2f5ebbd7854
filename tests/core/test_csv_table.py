"""Tables as people and programs write them."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from graft.core.csv_table import DELIMITERS, CsvTable, as_text, read_csv, read_json_lines
from graft.core.errors import DataError


def table(folder: Path, content: str | bytes, name: str = "table.csv") -> CsvTable:
    return read_csv(written(folder, content, name))


def written(folder: Path, content: str | bytes, name: str) -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


ROWS = (("a.jpg", "007"), ("b.jpg", "NA"))


@pytest.mark.parametrize(
    "content",
    [
        "path,label\na.jpg,007\nb.jpg,NA\n",
        "path;label\na.jpg;007\nb.jpg;NA\n",
        "path\tlabel\na.jpg\t007\nb.jpg\tNA\n",
        "path|label\na.jpg|007\nb.jpg|NA",
        "path,label\r\na.jpg,007\r\nb.jpg,NA\r\n",
        "path,label\ra.jpg,007\rb.jpg,NA\r",
        "\n\npath,label\n\na.jpg,007\n  \nb.jpg,NA\n,\n",
        "path, label\na.jpg, 007\nb.jpg, NA\n",
        'path, label\na.jpg, "007"\nb.jpg, "NA"\n',
        '"path","label"\n"a.jpg","007"\n"b.jpg","NA"\n',
        "sep=;\npath;label\na.jpg;007\nb.jpg;NA\n",
        "path;label;;\na.jpg;007;;\nb.jpg;NA\n",
        "path,label\n".encode("utf-8-sig") + b"a.jpg,007\nb.jpg,NA\n",
        "path\tlabel\r\na.jpg\t007\r\nb.jpg\tNA\r\n".encode("utf-16"),
    ],
)
def test_one_table_in_many_dialects(tmp_path: Path, content: str | bytes) -> None:
    found = table(tmp_path, content)
    assert (found.columns, found.rows) == (("path", "label"), ROWS)
    found.write(tmp_path / "again.csv")
    assert read_csv(tmp_path / "again.csv").rows == ROWS


def test_text_stays_text(tmp_path: Path) -> None:
    values = ("007", "NA", "nan", "true", "12e4567", "1_000", "12:30", "no", " x ", "-", "Inf", "1,5", 'say "ant"')
    text = "\n".join('"{}"'.format(value.replace('"', '""')) for value in values)
    assert table(tmp_path, f"value\n{text}\n").values("value") == values


def test_a_comma_in_a_table_of_semicolons(tmp_path: Path) -> None:
    found = table(tmp_path, "path;label, in English;age\na.jpg;ant, black;1,5\n")
    assert found.columns == ("path", "label, in English", "age")
    assert found.rows == (("a.jpg", "ant, black", "1,5"),)


def test_lines_are_those_of_an_editor(tmp_path: Path) -> None:
    found = table(tmp_path, 'path,note\n\na,"two\nlines"\nb,one\n')
    assert (found.lines, found.rows[0][1]) == ((3, 5), "two\nlines")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "path,label\na.jpg,cat\nb.jpg,ant, black\n",
            "line 3: 3 fields, but the header has 2 ('b.jpg,ant, black'); put",
        ),
        (
            "path;label\n\na.jpg\n",
            "line 3: 1 field, but the header has 2 ('a.jpg'); add what is missing, or a semicolon",
        ),
        ('path,note\na,"two\nlines"\nb,"open\nc,d\n', "line 4: not valid CSV (a quote is never closed)"),
        ('path,note\na,"x"y\n', "line 2: not valid CSV (',' expected after '\"')"),
        ("path,label,path\na,b,c\n", "line 1: two columns are named 'path'; give each its own name"),
        (",,label\na,b,c\n", "line 1: two columns have no name"),
        ("path,label\na,Käfer\n".encode("latin-1"), "line 2: not UTF-8 text (byte 14); save it as CSV in UTF-8"),
        ("path,label\na\0b,c\n", "line 2: holds a NUL byte"),
        ("path\tlabel\n".encode("utf-16") + b"\xd8", "line 2: not UTF-16 text"),
        ("", "is empty; expected a header and one row per line"),
        ("\n , \n", "is empty"),
        ('path,label\n"' + "x" * 200_000, "line 2: not valid CSV (a value is longer than 131,072 characters"),
    ],
)
def test_faults_name_the_line(tmp_path: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(DataError) as caught:
        table(tmp_path, content)
    assert str(caught.value).startswith(f"{tmp_path / 'table.csv'}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.csv: cannot be read \(No such file"):
        read_csv(tmp_path / "nothing.csv")


def test_json_lines(tmp_path: Path) -> None:
    text = '{"file_name": "a.jpg", "label": 7, "age": 1.50}\n\n{"file_name": "b.jpg", "label": null, "tags": ["x"]}\n'
    found = read_json_lines(written(tmp_path, text, "metadata.jsonl"))
    assert found.columns == ("file_name", "label", "age", "tags")
    assert found.rows == (("a.jpg", "7", "1.50", ""), ("b.jpg", "", "", '["x"]'))
    assert found.lines == (1, 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1}\n{"a": \n', "line 2: not a JSON object"),
        ('["a"]\n', "line 1: not a JSON object but '[\"a\"]'; expected one per line"),
        ('{"a": 1, "a": 2}\n', "line 1: not a JSON object (a name appears twice)"),
        ("\n", "is empty; expected one JSON object per line"),
    ],
)
def test_faults_of_json_lines(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        read_json_lines(written(tmp_path, text, "metadata.jsonl"))
    assert said in str(caught.value)


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=8)


@given(
    rows=st.lists(st.tuples(words, words, words), min_size=1, max_size=6),
    delimiter=st.sampled_from(DELIMITERS),
    newline=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
@example(rows=[("", "", "x"), (";", "\r", '"')], delimiter="\t", newline="\r\n", encoding="utf-8")
def test_any_values_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str, str]],
    delimiter: str,
    newline: str,
    encoding: str,
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=newline, quoting=csv.QUOTE_ALL)
    writer.writerows([("path", "label", "split"), *(map(as_text, row) for row in rows)])
    folder = tmp_path_factory.mktemp("csv", numbered=True)
    found = table(folder, text.getvalue().encode(encoding))
    assert found.rows == tuple(row for row in rows if any(as_text(value).strip() for value in row))


@pytest.mark.parametrize("cell", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "'=1", "=HYPERLINK(1)"])
def test_a_formula_is_text_for_a_spreadsheet_and_itself_for_a_reader(tmp_path: Path, cell: str) -> None:
    assert as_text(cell) == f"'{cell}"
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([["path", "label"], [as_text(cell), "x"]])
    assert table(tmp_path, text.getvalue().encode()).rows == ((cell, "x"),)


@pytest.mark.parametrize("cell", ["-1", "+0.5", "-1e-3", "cat", "", "it's", "'quoted'", "a=b"])
def test_a_number_and_plain_text_stay_as_they_are(cell: str) -> None:
    assert as_text(cell) == cell


@given(content=st.binary(max_size=200))
@example(b'a,"\n')
@example(b"a\n\xff")
def test_any_bytes_are_a_table_or_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = written(tmp_path_factory.mktemp("csv", numbered=True), content, "table.csv")
    try:
        found = read_csv(file)
    except DataError as error:
        said = str(error)
    else:
        said = ""
        assert all(len(row) == len(found.columns) for row in found.rows)
    assert "\n" not in said
