"""What a run leaves, in Python: numbers, report, figures and the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from graft.core.atomic import read_json
from graft.core.errors import DataError
from graft.data.records import SPLITS
from pipelines.api.html import html_table, text_table
from pipelines.local.summary import Estimate, Summary

if TYPE_CHECKING:
    from graft.models.bundle import ModelBundle

SHOWN_FIGURE = "comparison"
"""The figure that a notebook shows of a result: the model beside what it is compared with."""
HEADLINE = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "ece")


@dataclass(frozen=True)
class Page:
    """A page in a file; a notebook shows a link to it, `inline` shows the page."""

    path: Path

    def __fspath__(self) -> str:
        """Return the path."""
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return str(self.path)

    def inline(self, height: int = 600) -> "Inline":
        """Return the page itself, for a notebook to show.

        Args:
            height: pixels.
        """
        source = escape(self.path.read_text(encoding="utf-8"))
        return Inline(f'<iframe srcdoc="{source}" width="100%" height="{height}" frameborder="0"></iframe>')

    def _repr_html_(self) -> str:
        return f'<a href="{escape(str(self.path))}" target="_blank">{escape(str(self.path))}</a>'


@dataclass(frozen=True)
class Inline:
    """HTML that a notebook shows where it is returned."""

    html: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return f"a page of {len(self.html):,} characters"


@dataclass(frozen=True)
class Figure:
    """A figure of the report as SVG; a notebook shows it."""

    name: str
    svg: str

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"figure {self.name!r}"


@dataclass(frozen=True)
class Result:
    """The results of a run, read from its output folder; `graft.Result.read("outputs")` reads them again later."""

    out: Path
    """The output folder."""
    summary: Summary
    """Everything in `summary.json`."""

    @classmethod
    def read(cls, out: str | Path = "outputs") -> "Result":
        """Read the results in an output folder.

        Raises:
            DataError: if no run has written there.
        """
        out = Path(out)
        if not (out / "summary.json").is_file():
            raise DataError(f"{out}: no results of a run here (summary.json is missing)")
        return cls(out, Summary.model_validate(read_json(out / "summary.json")))

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """The metrics on the test images by name; None where one is undefined for these images."""
        return MappingProxyType({name: estimate.value for name, estimate in self._test.items()})

    @property
    def intervals(self) -> Mapping[str, tuple[float, float] | None]:
        """The intervals of `metrics`, of 95 % unless `evaluate.confidence` says otherwise."""
        return MappingProxyType({name: _interval(estimate) for name, estimate in self._test.items()})

    @property
    def report(self) -> Page:
        """The report."""
        return Page(self.out / "report.html")

    @property
    def data_page(self) -> Page:
        """The page about the images and what is odd about them."""
        return Page(self.out / "validation" / "data.html")

    @cached_property
    def model(self) -> "ModelBundle":
        """The trained model, ready to predict."""
        from graft.serving.loading import load_model  # torch takes seconds, and not every look at a result needs it

        return load_model(self.out / "model")

    @property
    def figures(self) -> Mapping[str, Figure]:
        """The figures of the report by name, for as long as the folder `steps` of the run is there."""
        files = sorted(self.out.glob("steps/*/evaluate/evaluation/figures/*.svg"))
        return {file.stem: Figure(file.stem, file.read_text(encoding="utf-8")) for file in files}

    @property
    def _test(self) -> Mapping[str, Estimate]:
        return self.summary.metrics["test"]

    def rows(self) -> list[tuple[str, str]]:
        """Return what to know about the run: a heading and a text for each line."""
        reused, model = self.summary.reused, self.summary.model
        counts = self.summary.data.counts
        rows = [
            (f"{split} images", f"{sum(counts[split].values()):,} in {len(counts[split])} classes")
            for split in SPLITS
            if split in counts
        ]
        rows += [(f"test {name}", self._test[name].text()) for name in HEADLINE if name in self._test]
        rows.append(("reused", f"{reused.backbone}, weights {reused.weights}, up to {reused.depth}"))
        rows.append(("trained", ", ".join(["head", *reused.trained_groups])))
        rows += [("left out", text) for text in self.summary.left_out]
        rows.append(("model", f"{model.name} version {model.version} ({model.alias})"))
        rows += [("not promoted", reason) for reason in model.reasons]
        rows += [("seconds", f"{self.summary.seconds['total']:.0f}"), ("report", str(self.report))]
        return rows

    def __repr__(self) -> str:
        return text_table(self.rows())

    def _repr_html_(self) -> str:
        figure = self.figures.get(SHOWN_FIGURE)
        return html_table([row for row in self.rows() if row[0] != "report"], self.report._repr_html_()) + (
            f"<div>{figure.svg}</div>" if figure else ""
        )


def _interval(estimate: Estimate) -> tuple[float, float] | None:
    return None if estimate.low is None or estimate.high is None else (estimate.low, estimate.high)
