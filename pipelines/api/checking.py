"""`graft.validate` and `graft.doctor`: what is wrong with a folder of images, checked or at a first look."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipelines.api.html import html_table, text_table
from pipelines.api.keywords import Given, asked_params
from pipelines.api.result import Page

if TYPE_CHECKING:
    from graft.quality.findings import Finding


@dataclass(frozen=True)
class Checked:
    """The verdict on a data folder."""

    verdict: Literal["pass", "warn", "fail"]
    findings: "tuple[Finding, ...]"
    """Worst first."""
    counts: Mapping[str, Mapping[str, int]]
    """Images kept, by split and class."""
    page: Page
    """All findings with their pictures."""

    def rows(self) -> list[tuple[str, str]]:
        """Return what to know: a heading and a text for each line."""
        classes = {label for of_split in self.counts.values() for label in of_split}
        images = ", ".join(f"{split} {sum(of_split.values()):,}" for split, of_split in self.counts.items()) or "none"
        rows = [("images", f"{images}, in {len(classes)} classes")]
        rows += [(finding.severity, finding.line()) for finding in self.findings]
        return [*rows, ("verdict", self.verdict), ("page", str(self.page))]

    def __repr__(self) -> str:
        return text_table(self.rows())

    def _repr_html_(self) -> str:
        return html_table(self.rows()[:-1], self.page._repr_html_())


@dataclass(frozen=True)
class Diagnosis:
    """A first look at a data folder."""

    lines: tuple[tuple[str, str], ...]
    """What to know: a heading and a text for each line."""
    seconds: float
    """About how long a run takes on this machine without fine-tuning."""

    def __repr__(self) -> str:
        return text_table(self.lines)

    def _repr_html_(self) -> str:
        return html_table(self.lines)


def validate(
    data: str | Path,
    *,
    out: str | Path = "outputs/data",
    params: str | Path | None = None,
    say: Callable[[str], None] = print,
    validate_data: Given = None,
) -> Checked:
    """Check every image of a folder, as a run does, and write a page about them.

    Args:
        data: folder or CSV manifest of images.
        out: folder for the page and the findings.
        params: file of parameters; None: `params.yaml` in the working folder if there is one, else the defaults.
        say: called with each line about what is decided on the way.
        validate_data: fields of this section of the parameters, as in `{"on_bad_image": "drop"}`.

    Returns:
        Verdict, findings and page; a failing verdict is no exception.

    Raises:
        ParamsError: for an unknown name or a wrong value.
        DataError: if the folder cannot be read as a data set.

    >>> graft.validate("photos").verdict
    photos: read as split folders, ...
    'pass'
    """
    section = asked_params({"validate_data": validate_data}, {}, file=params)[0].validate_data
    from pipelines.console.validating import check  # late: a wrong parameter should fail before the slow imports

    found, page = check(str(data), Path(out), section, say)
    return Checked(found.verdict, tuple(found.findings), found.counts, Page(page))


def doctor(data: str | Path, *, params: str | Path | None = None, validate_data: Given = None) -> Diagnosis:
    """Look at a folder of images for some seconds: how it is read, what is odd, what a run does and how long it takes.

    Args:
        data: folder of images, manifest, or packed set.
        params: file of parameters; None: `params.yaml` in the working folder if there is one, else the defaults.
        validate_data: fields of this section of the parameters, as in `{"layout": "splits"}`.

    Raises:
        DataError: if it can be read in several ways, or in none.

    >>> graft.doctor("photos").lines[1]
    ('images', '64 in 2 classes: cat 32 to dog 32')
    """
    section = asked_params({"validate_data": validate_data}, {}, file=params)[0].validate_data
    from graft.data.fetch import as_folder  # late: a wrong parameter should fail before the slow imports
    from graft.quality.doctor import diagnose

    with as_folder(Path(data).expanduser()) as root:
        found = diagnose(root, section)
    return Diagnosis(tuple(found.lines()), found.seconds())
