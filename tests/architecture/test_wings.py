"""The wings of graft: the picture of them is drawn from the code, each has a guide, and none has grown too large."""

import ast
import re
from pathlib import Path

import pytest

from tests.support.wing_graph import BLOCK, PAGE, mermaid, reach, reduced, wing_graph

MOST_FILES, MOST_LINES = 25, 300
WINGS = sorted(wing_graph())


def test_the_picture_in_the_documents_is_the_code() -> None:
    found = BLOCK.search(PAGE.read_text(encoding="utf-8"))
    assert found, f"{PAGE.name} has no Mermaid diagram"
    assert found[0] == mermaid(wing_graph()), "make format draws the wings anew"


def test_an_arrow_is_left_out_only_where_a_longer_way_stands_for_it() -> None:
    graph = wing_graph()
    assert {wing: reach(graph, wing) for wing in graph} == {wing: reach(reduced(graph), wing) for wing in graph}


def test_the_picture_shows_a_new_import(tmp_path: Path) -> None:
    for name, content in {"a/one": "from graft.b.two import x", "b/two": "", "c/three": "import graft.a.one"}.items():
        file = tmp_path / "graft" / f"{name}.py"
        file.parent.mkdir(parents=True)
        file.write_text(content)
        (file.parent / "__init__.py").write_text('"""A guide."""')
    assert mermaid(wing_graph(tmp_path)) == "flowchart BT\n    a --> b\n    c --> a\n"
    (tmp_path / "graft/c/three.py").write_text("def f():\n    from graft.b import two\n")
    assert mermaid(wing_graph(tmp_path)) == "flowchart BT\n    a --> b\n    c --> b\n"


@pytest.mark.parametrize("wing", WINGS)
def test_a_wing_has_a_guide_that_imports_nothing(root: Path, wing: str) -> None:
    tree = ast.parse((root / "graft" / wing / "__init__.py").read_text())
    guide = ast.get_docstring(tree)
    assert guide
    assert "Start with" in guide
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def test_the_walks_name_files_and_functions_that_exist(root: Path) -> None:
    steps = re.findall(r"`((?:\w+/)+\w+\.py)(?:: ([\w.]+))?`", PAGE.read_text(encoding="utf-8"))
    assert len(steps) > 40
    for name, function in steps:
        files = [file for file in (root / name, root / "graft" / name) if file.is_file()]
        assert files, name
        for part in function.split("."):
            assert re.search(rf"\b{part}\b", files[0].read_text()), f"{name}: {part}"


@pytest.mark.parametrize("wing", WINGS)
def test_a_wing_can_be_looked_through(root: Path, wing: str) -> None:
    assert len(list((root / "graft" / wing).glob("*.py"))) <= MOST_FILES


def test_a_file_has_one_reason_to_change(root: Path) -> None:
    files = [file for folder in ("graft", "components", "pipelines") for file in (root / folder).rglob("*.py")]
    lines = {file.relative_to(root).as_posix(): len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}
