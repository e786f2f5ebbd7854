"""The page about the data."""

from pathlib import Path

from graft.files import write_json, write_text
from graft.validation import Validation


def write_page(validation: Validation, folder: Path) -> None:
    """Write `data.html`, `findings.json`, `suite.json` and `results.json` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "findings.json", [finding.plain() for finding in validation.findings])
    write_json(folder / "suite.json", validation.judgement.suites)
    write_json(folder / "results.json", validation.judgement.results)
    write_text(folder / "data.html", "<!doctype html><title>data</title>")
