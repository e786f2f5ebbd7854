"""The summary of a run: `summary.json` with stable keys, and the table printed at the end.

The keys are documented in `docs/summary.md`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.table import Table

from graft.core.atomic import read_json
from pipelines.local.decisions import Decision, decisions, in_order

MANY_CLASSES = 12
HEADLINE = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "auroc", "average_precision", "ece")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Data(_Part):
    """The validated images."""

    digest: str
    counts: dict[str, dict[str, int]]


class Estimate(_Part):
    """A number and its interval; null where it is undefined for the test images (AUROC of one class)."""

    value: float | None
    low: float | None
    high: float | None

    def text(self) -> str:
        """Return the number and its interval as text."""
        if self.value is None or self.low is None or self.high is None:
            return "undefined for these images"
        return f"{self.value:.4f}  ({self.low:.4f} to {self.high:.4f})"


class Reused(_Part):
    """The reused part of the pretrained backbone, and its groups that were trained further."""

    backbone: str
    weights: str
    weights_sha256: str | None
    depth: str
    trained_groups: list[str]
    untried: str = ""
    """Why fine-tuning tried no stage, or not all of them; empty if nothing was left out."""


class Model(_Part):
    """The version in the registry."""

    name: str
    version: int
    alias: str
    reasons: list[str]
    """Why it did not become champion; empty if it did."""


class MLflow(_Part):
    """Where the runs are."""

    tracking_uri: str
    run_id: str


class Task(_Part):
    """One of several tasks."""

    metrics: dict[str, dict[str, Estimate]]
    counts: dict[str, dict[str, int]]
    depth: str
    """The last group of the backbone that its head reads."""


class Summary(_Part):
    """The content of `summary.json`; of several tasks, `data` and `metrics` are about the first."""

    data: Data
    metrics: dict[str, dict[str, Estimate]]
    reused: Reused
    seconds: dict[str, float]
    model: Model
    mlflow: MLflow
    decisions: list[Decision] = []
    """What the run chose, and why, in the order of the steps."""
    left_out: list[str] = []
    """What the budget of the run did not allow, in words; empty without a budget."""
    reused_steps: list[str] = []
    """Steps that were not run: nothing that their results of an earlier run depend on had changed."""
    tasks: dict[str, Task] = Field({}, exclude_if=lambda tasks: not tasks)
    """Each task, if there are several."""
    all_right: Estimate | None = Field(None, exclude_if=lambda estimate: estimate is None)
    """Share of the test images on which the answers to all tasks are right, if there are several."""


def build(metrics: Mapping[str, Mapping[str, Any]], total_seconds: float, reused_steps: Sequence[str] = ()) -> Summary:
    """Build the summary from the metrics of the steps (step name -> its JSON)."""
    validated, extracted, head = metrics["validate_data"], metrics["extract_features"], metrics["train_head"]
    tuned, evaluated, registered = metrics["fine_tune"], metrics["evaluate"], metrics["register_model"]
    return Summary(
        data=Data(digest=validated["digest"], counts=validated["counts"]),
        metrics={"test": evaluated["test"]},
        reused=Reused(
            backbone=extracted["backbone"],
            weights=extracted["weights"],
            weights_sha256=extracted["weights_sha256"],
            depth=head["depth"],
            trained_groups=tuned["trained_groups"],
            untried=tuned["untried"],
        ),
        seconds={step: values["seconds"] for step, values in metrics.items()} | {"total": round(total_seconds, 3)},
        model=Model(
            name=registered["name"],
            version=int(registered["version"]),
            alias=registered["alias"],
            reasons=registered["reasons"],
        ),
        mlflow=MLflow(tracking_uri=registered["tracking_uri"], run_id=registered["run_id"]),
        decisions=decisions(metrics),
        left_out=[*evaluated.get("left_out", []), *([tuned["untried"]] if "budget" in tuned["untried"] else [])],
        reused_steps=list(reused_steps),
        tasks={
            name: Task(
                metrics={"test": found["test"]},
                counts=validated["tasks"][name],
                depth=head["tasks"][name]["depth"],
            )
            for name, found in evaluated.get("tasks", {}).items()
        },
        all_right=evaluated["together"]["all_right"] if "together" in evaluated else None,
    )


def read_metrics(files: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Read each step's metrics file."""
    return {step: read_json(file) for step, file in files.items()}


def show(summary: Summary, console: Console, places: Mapping[str, str], next_command: str) -> None:
    """Print the summary as a table."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for split in in_order(summary.data.counts):
        table.add_row(f"{split} images", _counts(summary.data.counts[split]))
    for name, estimate in _headline(summary.metrics["test"]).items() if not summary.tasks else ():
        table.add_row(f"test {name}", estimate.text())
    for task, found in summary.tasks.items():
        for name, estimate in _headline(found.metrics["test"]).items():
            table.add_row(f"{task}: test {name}", estimate.text())
    if summary.all_right:
        table.add_row("all right at once", summary.all_right.text())
    reused = summary.reused
    table.add_row("weights", reused.weights)
    for one in summary.decisions:
        table.add_row(one.what, f"{one.chosen}: {one.why}" if one.why else one.chosen)
    table.add_row("trained", ", ".join(["head", *reused.trained_groups]))
    for text in summary.left_out:
        if text != reused.untried:
            table.add_row("left out", text)
    if summary.reused_steps:
        table.add_row("unchanged", ", ".join(summary.reused_steps))
    table.add_row("seconds", "  ".join(f"{step} {seconds:.1f}" for step, seconds in summary.seconds.items()))
    table.add_row("model", f"{summary.model.name} version {summary.model.version} ({summary.model.alias})")
    for reason in summary.model.reasons:
        table.add_row("not promoted", reason)
    table.add_row("MLflow", f"{summary.mlflow.tracking_uri} run {summary.mlflow.run_id}")
    for name, place in places.items():
        table.add_row(name, place)
    table.add_row("next", next_command)
    console.print(table, highlight=False, markup=False)


def places(out: Path) -> dict[str, str]:
    """Return what to open first, and where the rest is."""
    return {
        "numbers": str(out / "summary.json"),
        "model folder": str(out / "model"),
        "open first": str(out / "report.html"),
    }


def _headline(test: Mapping[str, Estimate]) -> dict[str, Estimate]:
    return {name: test[name] for name in HEADLINE if name in test} or dict(test)


def _counts(counts: Mapping[str, int]) -> str:
    total = f"{sum(counts.values()):,}"
    if len(counts) > MANY_CLASSES:
        return f"{total} in {len(counts)} classes of {min(counts.values()):,} to {max(counts.values()):,}"
    return f"{total}: " + ", ".join(f"{label} {count:,}" for label, count in counts.items())
