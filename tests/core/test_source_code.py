from pathlib import Path

import pytest

from graft.core.source_code import import_closure, source_digest
from graft.finetune import staged

DEEP = [
    "finetune.surgical",
    "training.objective",
    "finetune.stage_verdict",
    "heads.depth_selection",
    "backbones.partition",
    "backbones.input_channels",
    "imaging.tiff",
    "stats.conformal",
]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    files = {
        "graft/__init__.py": "from graft.a.one import x\n",
        "graft/a/one.py": "import numpy\nfrom graft.b import two\n",
        "graft/b/two.py": "def f():\n    from graft.b.three import y\n",
        "graft/b/three.py": "import graft.a.one\n",
        "graft/b/four.py": "from .three import y\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def test_imports_anywhere_in_a_file_are_followed(project: Path) -> None:
    assert list(import_closure("graft.a.one", root=project)) == ["graft.a.one", "graft.b.three", "graft.b.two"]
    assert list(import_closure("graft.b.four", root=project)) == ["graft.b.four"]  # none of ours are relative
    with pytest.raises(ModuleNotFoundError, match=r"graft\.none"):
        import_closure("graft.none", root=project)


def test_a_change_of_an_indirect_import_changes_the_digest(project: Path) -> None:
    before = source_digest("graft.a.one", root=project)
    (project / "graft/b/three.py").write_text("import graft.a.one\n# changed\n")
    source_digest.cache_clear()
    assert source_digest("graft.a.one", root=project) != before


@pytest.mark.parametrize("module", DEEP)
def test_a_checkpoint_is_stale_after_a_change_of_any_code_that_trains(module: str) -> None:
    assert f"graft.{module}" in import_closure(staged.__name__)
