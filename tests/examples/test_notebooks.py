"""The notebooks run from the first cell to the last, and stay small."""

import shutil
from pathlib import Path

import pytest

NOTEBOOKS = sorted(file.stem for file in (Path(__file__).parents[2] / "examples").glob("*.ipynb"))
MOST_BYTES = 200_000


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_small_and_was_run(root: Path, name: str) -> None:
    import nbformat

    file = root / "examples" / f"{name}.ipynb"
    assert file.stat().st_size < MOST_BYTES
    cells = [cell for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert str(root) not in file.read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    import nbformat
    from nbclient import NotebookClient

    shutil.copy(root / "examples" / f"{name}.ipynb", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(root))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    book = nbformat.read(tmp_path / f"{name}.ipynb", as_version=4)
    NotebookClient(book, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert len(nbformat.writes(book)) < MOST_BYTES
