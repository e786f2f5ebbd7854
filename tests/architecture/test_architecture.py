import ast
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

from graft.params.params import Params
from pipelines.update_arguments import UpdateParams

STEPS = list(dict.fromkeys([*Params.model_fields, *UpdateParams.model_fields]))


def test_import_contracts(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(root)
    assert lint_imports(no_cache=True) == 0, capsys.readouterr().out


def test_each_section_has_a_folder_and_each_folder_a_section(root: Path) -> None:
    folders = {path.parent.name for path in (root / "components").glob("*/*.py")}
    assert folders == set(STEPS)


@pytest.mark.parametrize("step", STEPS)
def test_a_component_is_only_a_face(root: Path, step: str) -> None:
    tree = ast.parse((root / "components" / step / "component.py").read_text())
    allowed = {"kfp", "components"} | sys.stdlib_module_names
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None
            assert node.module.split(".")[0] in allowed
            assert node.module == "components.image" or not node.module.startswith("components")
            # KFP reads the annotations themselves when it decorates.
            assert node.module != "__future__"
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert functions[0].name == step
    for function in functions:
        inner = [node.module or "" for node in ast.walk(function) if isinstance(node, ast.ImportFrom)]
        assert f"components.{step}.step" in inner
        others = {module.split(".")[0] for module in inner if not module.startswith(f"components.{step}.")}
        assert others <= {"graft"} | sys.stdlib_module_names


@pytest.mark.parametrize("step", ["get_data", "validate_data"])
def test_data_steps_load_no_torch(root: Path, step: str) -> None:
    code = f"import sys, components.{step}.step; print(sorted({{'torch', 'torchvision', 'timm'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["graft.params.params", "graft.runs.step", "graft.data.dataset", "pipelines.cli"])
def test_importing_is_light(root: Path, module: str) -> None:
    heavy = "{'torch', 'mlflow', 'kfp', 'great_expectations', 'sklearn', 'matplotlib', 'dvc'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_these_wings_load_no_torch(root: Path) -> None:
    wings = ("core", "runs", "stats", "tasks", "data", "quality", "heads")
    files = [file for wing in wings for file in (root / "graft" / wing).glob("*.py") if file.stem != "__init__"]
    modules = ", ".join(f"graft.{file.parent.name}.{file.stem}" for file in files)
    code = f"import sys, {modules}; print(sorted({{'torch', 'torchvision', 'timm'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_packages_import_nothing_of_ours(root: Path) -> None:
    # The files a step's results depend on are found by following imports: a package itself must not hide any.
    for package in ("graft", "components"):
        for file in (root / package).rglob("__init__.py"):
            imports = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.ImportFrom)]
            assert all((node.module or "").split(".")[0] in sys.stdlib_module_names for node in imports), file


def test_nothing_names_a_machine(root: Path) -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout.split()
    for name in listed:
        file = root / name
        if file.is_file() and file.suffix in {".py", ".md", ".toml", ".yaml", ".txt", "", ".html"}:
            text = file.read_text(encoding="utf-8", errors="ignore")
            assert str(root) not in text, name
