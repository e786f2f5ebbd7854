"""Which large packages each step imports whatever it is given: read from the source, without importing anything."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from graft.core.source_code import ROOT

LARGE = frozenset(
    {"great_expectations", "mlflow", "dvc", "sklearn", "torch", "torchvision", "timm", "openvino", "onnx"}
)
"""Packages that take between half a second and five to import."""
NEEDED = {
    "get_data": set(),
    "validate_data": {"great_expectations", "sklearn"},
    "extract_features": set(),
    "train_head": {"torch", "torchvision", "timm"},
    "review_features": {"sklearn"},
    "fine_tune": {"torch", "torchvision", "timm"},
    "evaluate": {"torch", "torchvision", "timm"},
    "register_model": {"torch", "torchvision", "timm"},
}
"""All others are imported in the functions that use them."""


@pytest.mark.parametrize("step", NEEDED)
def test_a_step_imports_no_large_package_that_it_may_not_need(step: str) -> None:
    packages = imported_at_once(ROOT / "components" / step / "step.py")
    assert packages & LARGE == NEEDED[step]


def imported_at_once(step: Path) -> set[str]:
    """The packages imported by the step's file, functions included, and by the modules that this imports."""
    queue = list(unconditional(ast.parse(step.read_bytes())))
    seen: set[str] = set()
    while queue:
        name = queue.pop()
        file = ROOT.joinpath(*name.split(".")).with_suffix(".py")
        if name not in seen and name.startswith("graft.") and file.is_file():
            queue.extend(at_module_level(ast.parse(file.read_bytes()).body))
        seen.add(name)
    return {name.partition(".")[0] for name in seen}


def unconditional(node: ast.AST) -> Iterator[str]:
    """The full names that a step's file imports whatever it is given: in functions too, but not under an `if`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield from at_module_level([child])
        elif not isinstance(child, ast.If):
            yield from unconditional(child)


def at_module_level(statements: list[ast.stmt]) -> Iterator[str]:
    """The full names that statements import when the module is imported: not in functions, not for type checking."""
    for node in statements:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.Try):
            yield from at_module_level(node.body)
