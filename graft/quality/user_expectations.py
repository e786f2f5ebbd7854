"""The user's expectations: suites as Great Expectations saves them (`*.json`), and Python files.

A Python file has a function `expectations(images)`. It gets the table of all files found, as in `images.parquet`, and
returns a list of Great Expectations objects; custom classes are allowed. It is executed like any other code of the
project, without a sandbox.
"""

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from graft.core.atomic import read_json
from graft.core.errors import DataError
from graft.core.installed import home
from graft.quality.findings import SEVERITIES

FUNCTION = "expectations"
KIND = "expectation"
_KNOWN_SEVERITIES = (*SEVERITIES, "ignore")


def load_user_expectations(folder: Path, images: pd.DataFrame, library: ModuleType) -> list[Any]:
    """Return the expectations of every `*.json` and `*.py` in `folder`, by file name; the folder may be missing.

    Args:
        folder: the folder of the files. A relative one that is not in the working directory is searched next to the
            code, because a container has another working directory.
        images: the table that they check.
        library: `great_expectations.expectations`.

    Raises:
        DataError: if a file is invalid; the message names the file and the place.
    """
    if not folder.is_dir():
        folder = home() / folder
    files = sorted(file for file in folder.glob("*.*") if file.suffix in (".json", ".py")) if folder.is_dir() else []
    read = {".json": _of_suite, ".py": _of_code}
    return [expectation for file in files for expectation in read[file.suffix](file, images, library)]


def _of_suite(file: Path, images: pd.DataFrame, library: ModuleType) -> list[Any]:
    del images
    content = read_json(file)
    listed = content.get("expectations") if isinstance(content, dict) else None
    if not isinstance(listed, list):
        raise DataError(f"{file}: expected a suite, an object with a list 'expectations'")
    made = []
    for number, entry in enumerate(listed, start=1):
        try:
            name = "".join(word.title() for word in entry["type"].split("_"))
            meta = _meta(entry.get("meta"), file, number)
            made.append(getattr(library, name)(**entry.get("kwargs", {}), meta=meta))
        except DataError:
            raise
        except Exception as error:  # Great Expectations and pydantic raise many types for a wrong entry
            raise DataError(f"{file}: expectation {number} cannot be used ({_one_line(error)})") from error
    return made


def _of_code(file: Path, images: pd.DataFrame, library: ModuleType) -> list[Any]:
    name = f"graft_expectations_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise DataError(f"{file}: not a Python file that can be loaded")
    module = importlib.util.module_from_spec(spec)
    # Custom expectation classes look up their annotations in their module.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        function = getattr(module, FUNCTION, None)
        if not callable(function):
            raise DataError(f"{file}: expected a function {FUNCTION}(images) that returns a list of expectations")
        made = list(function(images.copy()))
    except DataError:
        raise
    except Exception as error:  # the user's code may raise anything
        raise DataError(f"{file}: {_where(error, file)}{type(error).__name__}: {_one_line(error)}") from error
    for number, one in enumerate(made, start=1):
        if not isinstance(one, library.Expectation):
            raise DataError(
                f"{file}: {FUNCTION}(images) returned {type(one).__name__} as number {number}; "
                "expected objects of great_expectations.expectations"
            )
        one.meta = _meta(one.meta, file, number)
    return made


def _meta(given: Any, file: Path, number: int) -> dict[str, Any]:
    meta = {**(given or {}), "kind": KIND, "file": file.name}
    severity = meta.get("severity")
    if severity is not None and severity not in _KNOWN_SEVERITIES:
        known = ", ".join(_KNOWN_SEVERITIES)
        raise DataError(f"{file}: expectation {number}: unknown severity {severity!r}; known: {known}")
    return meta


def _where(error: Exception, file: Path) -> str:
    """Return the line of the user's file at which the error occurred."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: "
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file]
    return f"line {lines[-1]}: " if lines else ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
