"""One reader for every CSV that a person, a spreadsheet or another program wrote: manifests, queues, lists.

The dialect is detected, every row must have as many fields as the header, and all values stay the text that they are
(`007`, `NA`, `true`). Every message names the line of the file, counted as an editor counts it.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from graft.core.atomic import replacing
from graft.core.errors import DataError
from graft.core.text_forms import one_form

DELIMITERS = ",;\t|"
_BOMS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_SHOWN = 60
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_MARKED = re.compile(r"'+[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True)
class Dialect:
    """How a table is written."""

    delimiter: str = ","
    encoding: str = "utf-8"
    newline: str = "\n"
    initial_space: bool = False
    """Whether a blank follows each delimiter, which is not part of the values."""
    first_line: str = ""
    """A line `sep=;` before the header, as Excel writes it, else empty."""


@dataclass(frozen=True)
class CsvTable:
    """The text of a table; all rows have as many values as there are columns."""

    file: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    """The line of the file on which each row begins; the first line is 1."""
    dialect: Dialect

    def values(self, column: str) -> tuple[str, ...]:
        """Return one column."""
        at = self.columns.index(column)
        return tuple(row[at] for row in self.rows)

    def records(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield the line and the values by column of each row."""
        for line, row in zip(self.lines, self.rows, strict=True):
            yield line, dict(zip(self.columns, row, strict=True))

    def require(self, names: Sequence[str], about: str) -> None:
        """Check that the table has some columns.

        Raises:
            DataError: naming those that are missing and those that are there; `about` tells what is expected.
        """
        missing = [name for name in names if name not in self.columns]
        if missing:
            found = ", ".join(self.columns) or "none"
            raise DataError(f"{self.file}: no column {' and '.join(map(repr, missing))} (found: {found}); {about}")

    def with_values(self, column: str, values: Sequence[str]) -> "CsvTable":
        """Return the table with other values in one column."""
        at = self.columns.index(column)
        changed = ((*row[:at], value, *row[at + 1 :]) for row, value in zip(self.rows, values, strict=True))
        return replace(self, rows=tuple(changed))

    def write(self, file: Path) -> None:
        """Write the table in its own dialect, at once or not at all."""
        style = self.dialect
        with replacing(file) as temporary, temporary.open("w", encoding=style.encoding, newline="") as text:
            text.write(style.first_line + style.newline if style.first_line else "")
            writer = csv.writer(text, delimiter=style.delimiter, lineterminator=style.newline)
            writer.writerow(self.columns)
            # What was taken off is not put on again, but what looks like it stays what it is.
            writer.writerows([f"'{cell}" if _MARKED.match(cell) else cell for cell in row] for row in self.rows)


def as_text(cell: str) -> str:
    """Return a cell as a spreadsheet shows it and does not compute it: with an apostrophe before what begins a formula.

    A number stays as it is. `read_csv` takes the apostrophe off again.
    """
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


def read_csv(file: Path) -> CsvTable:
    """Read a table of text with a header.

    The delimiter is a comma, semicolon, tab or bar: the one with which all rows have the columns of the header. A byte
    order mark, a line `sep=;`, any line endings, blank lines, empty columns at the end and a blank after every
    delimiter belong to the dialect. The apostrophe that `as_text` puts before a formula is taken off.

    Raises:
        DataError: if the file cannot be read, is not Unicode text, has no header, two columns of one name, a quote that
            is never closed, or a row with another number of fields.
    """
    text, encoding = _text(file)
    line, separator, rest = text.partition("\n")
    declared = line.strip().lower()
    skipped, first_line = 0, ""
    if declared.startswith("sep=") and len(declared) == 5 and separator:
        text, skipped, first_line = rest, 1, line.strip()
    style = Dialect(encoding=encoding, newline="\r\n" if "\r\n" in text else "\n", first_line=first_line)
    candidates = [first_line[4]] if first_line else _candidates(text)
    style = replace(style, delimiter=candidates[0])
    if len(candidates) > 1:
        style = _best(file, text, skipped, [replace(style, delimiter=delimiter) for delimiter in candidates])
    if style.delimiter + " " in text and _all_spaced(file, text, skipped, style):
        style = replace(style, initial_space=True)
    return _checked(file, style, list(_parsed(file, text, skipped, style)))


def read_json_lines(file: Path) -> CsvTable:
    """Read a table with one JSON object per line; numbers are kept as they are written, null is empty.

    Raises:
        DataError: if a line is not a JSON object, or has a name twice.
    """
    text, _ = _text(file)
    rows: list[tuple[int, Mapping[str, str]]] = []
    columns: dict[str, None] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            found = json.loads(line, object_pairs_hook=_unique, parse_int=str, parse_float=str, parse_constant=str)
        except ValueError as error:
            raise DataError(f"{file}: line {number}: not a JSON object ({error})") from error
        if not isinstance(found, dict):
            raise DataError(f"{file}: line {number}: not a JSON object but {_shown(line)}; expected one per line")
        rows.append((number, {name: _plain(value) for name, value in found.items()}))
        columns |= dict.fromkeys(found)
    if not rows:
        raise DataError(f"{file}: is empty; expected one JSON object per line")
    values = tuple(tuple(row.get(name, "") for name in columns) for _, row in rows)
    return CsvTable(file, tuple(columns), values, tuple(number for number, _ in rows), Dialect())


def _text(file: Path) -> tuple[str, str]:
    """Return the text of a file, with its line endings, and its encoding."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error
    encoding = next((name for mark, name in _BOMS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{file}: line {line}: not {encoding.removesuffix('-sig').upper()} text (byte {error.start}); "
            "save it as CSV in UTF-8"
        ) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataError(f"{file}: line {line}: holds a NUL byte, so it is not a text table; save it as CSV in UTF-8")
    return text, encoding


def _candidates(text: str) -> list[str]:
    """Return the delimiters that the header holds outside quotes, the most frequent first; a comma if none."""
    header, _, _ = text.lstrip("\r\n").replace("\r", "\n").partition("\n")
    counts, quoted = dict.fromkeys(DELIMITERS, 0), False
    for character in header:
        quoted ^= character == '"'
        if character in counts and not quoted:
            counts[character] += 1
    found = [delimiter for delimiter in DELIMITERS if counts[delimiter]]
    return sorted(found, key=lambda delimiter: -counts[delimiter]) or [","]


def _best(file: Path, text: str, skipped: int, styles: Sequence[Dialect]) -> Dialect:
    """Return the first dialect with which all rows are complete, else the first one, whose fault is then named."""
    for style in styles:
        try:
            _checked(file, style, list(_parsed(file, text, skipped, style)))
        except DataError:
            continue
        return style
    return styles[0]


def _all_spaced(file: Path, text: str, skipped: int, style: Dialect) -> bool:
    """Return whether a blank follows every delimiter of a table."""
    try:
        rows = [fields for _, fields in _parsed(file, text, skipped, style)]
    except DataError:
        # A quote behind a blank does not open a value unless the blank belongs to the dialect.
        return True
    return all(field.startswith(" ") or not field for fields in rows for field in fields[1:])


def _parsed(file: Path, text: str, skipped: int, style: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the fields of each row that is not blank."""
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=style.delimiter, skipinitialspace=style.initial_space, strict=True
    )
    while True:
        line = skipped + reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise DataError(
                f"{file}: line {line}: not valid CSV ({_fault(str(error))}); write a quote in a value twice"
            ) from error
        if fields is None:
            return
        if any(field.strip() for field in fields):
            yield line, fields


def _checked(file: Path, style: Dialect, parsed: list[tuple[int, list[str]]]) -> CsvTable:
    if not parsed:
        raise DataError(f"{file}: is empty; expected a header and one row per line")
    (header_line, header), *body = parsed
    columns = [one_form(name.strip()) for name in header]
    while columns and not columns[-1]:
        columns.pop()
    double = next((name for name in columns if columns.count(name) > 1), None)
    if double is not None:
        what = f"two columns are named {double!r}" if double else "two columns have no name"
        raise DataError(f"{file}: line {header_line}: {what}; give each its own name")
    rows = []
    for line, fields in body:
        if len(fields) < len(columns) or any(field.strip() for field in fields[len(columns) :]):
            raise DataError(f"{file}: line {line}: {_miscounted(fields, len(columns), style)}")
        rows.append(tuple(field[1:] if _MARKED.match(field) else field for field in fields[: len(columns)]))
    return CsvTable(file, tuple(columns), tuple(rows), tuple(line for line, _ in body), style)


def _fault(said: str) -> str:
    """Return what the parser of the standard library says, in plain words."""
    if "limit" in said:
        return f"a value is longer than {csv.field_size_limit():,} characters, or a quote is never closed"
    return "a quote is never closed" if "end of data" in said else said


def _miscounted(fields: Sequence[str], expected: int, style: Dialect) -> str:
    name = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}.get(style.delimiter, repr(style.delimiter))
    counted = f"{len(fields)} field{'s' if len(fields) != 1 else ''}, but the header has {expected}"
    shown = _shown(style.delimiter.join(fields))
    if len(fields) < expected:
        return f"{counted} ({shown}); add what is missing, or a {name} for each empty value"
    return f"{counted} ({shown}); put a value that holds a {name} in double quotes"


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name appears twice")
    return found


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
