"""Whatever parses a file stands in a boundary: damaged bytes become one line, not a traceback from a library."""

import ast
from collections.abc import Iterator
from pathlib import Path

PARSERS = {
    "json.loads", "np.load", "open_file", "open_stream", "ParquetFile", "pd.read_csv", "pq.read_table", "load_file",
    "model_validate_json", "safe_load", "safe_open", "shlex.split", "tarfile.open", "torch.export.load", "torch.load",
    "yaml.load", "zipfile.ZipFile",
}  # fmt: skip
NATIVE = {
    "np.load", "open_file", "open_stream", "ParquetFile", "pq.read_table", "load_file", "safe_open", "tarfile.open",
    "torch.export.load", "torch.load", "zipfile.ZipFile",
}  # fmt: skip
"""Those that raise nearly anything on damaged bytes: a `try` that names what it expects is no boundary for them."""
ELSEWHERE = {
    "graft/core/commit.py:_replay": "a journal of Graft's own, put in place as a whole",
    "graft/data/relabel.py:_rewrite_json_lines": "a line that the reader of the table has read",
    "graft/data/unpack.py:_members": "extract catches what archives raise",
    "graft/dense/stages.py:_tried": "text of this process",
    "graft/detectors/fit.py:train_detector": "text of this process",
    "graft/labelling/kept_features.py:tables": "predict_folder has just checked the part",
    "graft/params/yaml_values.py:load_yaml": "read_yaml catches what YAML raises",
    "graft/quality/examination_cache.py:__call__": "a row whose digest was compared",
    "graft/runs/pipeline_runs.py:open_pipeline_run": "a variable that the command sets",
    "graft/runs/time_limit.py:left_out": "a variable that the runner sets",
    "graft/batch_prediction/tables.py:merge": "predict_folder has just checked the parts",
    "graft/batch_prediction/tables.py:strangest": "predict_folder has just written the parts",
    "graft/serving/registry.py:_history": "a tag of the registry, whose operators are trusted",
    "graft/serving/server.py:_pickled": "load_program calls it in its own boundary",
    "graft/training/checkpoints.py:read": "bytes whose digest was compared",
}  # fmt: skip
"""Functions that parse without a boundary of their own, and why nothing can go wrong there."""


def unguarded(file: Path) -> Iterator[str]:
    """Yield the functions of a file that call a parser outside of `with readable(...)` and of a `try`."""

    def walk(node: ast.AST, function: str, feared: set[str]) -> Iterator[str]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function, feared = node.name, PARSERS
        elif isinstance(node, ast.With) and any("readable(" in ast.unparse(item.context_expr) for item in node.items):
            feared = set()
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if any(name == parser or name.endswith(f".{parser}") for parser in feared):
                yield function
        for field, value in ast.iter_fields(node):
            within = feared
            if isinstance(node, ast.Try) and field == "body" and node.handlers:
                broad = any(
                    handler.type is None or ast.unparse(handler.type) == "Exception" for handler in node.handlers
                )
                within = set() if broad else feared & NATIVE
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from walk(child, function, within)

    yield from walk(ast.parse(file.read_text(encoding="utf-8")), "", PARSERS)


def test_every_parser_stands_in_a_boundary(root: Path) -> None:
    files = sorted((root / "graft").rglob("*.py"))
    found = {f"{file.relative_to(root)}:{function}" for file in files for function in unguarded(file)}
    assert found == set(ELSEWHERE)


def test_what_it_sees(tmp_path: Path) -> None:
    file = tmp_path / "reader.py"
    file.write_text(
        "def bare(file):\n    return json.loads(file)\n"
        "def held(file):\n    with readable(file):\n        return np.load(file)\n"
        "def caught(file):\n    try:\n        return json.loads(file)\n    except ValueError:\n        return None\n"
        "def narrow(file):\n    try:\n        return pq.read_table(file)\n    except OSError:\n        return None\n"
        "def broad(file):\n    try:\n        return pq.read_table(file)\n    except Exception:\n        return None\n"
        "def after(file):\n    try:\n        pass\n    except OSError:\n        return pq.read_table(file)\n"
    )
    assert list(unguarded(file)) == ["bare", "narrow", "after"]
