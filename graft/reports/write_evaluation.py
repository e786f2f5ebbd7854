"""Write the output folder of `evaluate`: scores, predictions, figures, tables, model card and report."""

import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from graft.backbones.pretrained_classifier import ZeroShot, describe_overlap
from graft.core.atomic import write_text
from graft.core.csv_table import as_text
from graft.core.installed import DISTRIBUTION
from graft.evaluation.headline import percent, span
from graft.evaluation.held_out_table import write_predictions
from graft.evaluation.key_figures import write_key_figures
from graft.evaluation.predictions import Predictions
from graft.evaluation.schema import Estimate, Evaluation, task_evaluation, write_evaluation
from graft.evaluation.several_tasks import EvaluatedTask
from graft.models.bundle_spec import BundleSpec
from graft.reports import evaluation_plots
from graft.reports.embedding_view import EmbeddingView, embedding_view, of_answers, of_labels, of_splits
from graft.reports.evaluation_page import Report, render
from graft.reports.model_card import Origin, markdown, model_card
from graft.reports.svg_charts import standalone_svg
from graft.runs.git_revision import git_revision
from graft.runs.time_limit import left_out

REPORT_FILE, CARD_FILE, FIGURES_FOLDER, PLOTS_FOLDER = "report.html", "card.md", "figures", "plots"
PACKAGES = (DISTRIBUTION, "torch", "torchvision", "timm", "numpy", "scikit-learn", "pillow")


def write_report(folder: Path, tasks: Sequence[EvaluatedTask]) -> None:
    """Write scores, predictions, figures, tables for plots and cards of every task, and the page, into `folder`.

    Args:
        folder: of the evaluation; the files of tasks after the first are in `tasks/`.
        tasks: the first one first.
    """
    reports = [
        _write_task(task_evaluation(folder, one.found.task.name) if number else folder, one)
        for number, one in enumerate(tasks)
    ]
    write_key_figures(folder, tasks[0].found, [one.found for one in tasks[1:]])
    write_text(folder / REPORT_FILE, render(replace(reports[0], further=tuple(reports[1:]))))


def _write_task(folder: Path, one: EvaluatedTask) -> Report:
    """Write everything about a task but its page, and return what the page shows."""
    images, answers, evaluation = one.images, one.answers, one.found
    head, model = one.head.spec, one.model.spec
    folder.mkdir(parents=True, exist_ok=True)
    write_evaluation(folder, evaluation)
    write_predictions(folder, answers.table(images))
    test = answers.of_split("test")
    curve = [point.model_dump() for point in head.curve]
    stages = [stage.model_dump() for stage in model.stages]
    raw = evaluation.task.probabilities(answers.logits[answers.in_split("test")])
    drawn = evaluation_plots.figures(evaluation, test.targets, test.model, curve, stages, raw)
    _write_figures(folder, drawn)
    _write_plots(folder, evaluation, answers)
    card = model_card(evaluation, model_origin(model))
    title = task_title(images.classes)
    write_text(folder / CARD_FILE, markdown(card, f"Model card: {title}"))
    return Report(
        title=title,
        data=images.spec.name,
        backbone=f"{model.backbone.architecture} up to {model.backbone.depth}",
        evaluation=evaluation,
        counts=images.counts(),
        figures=drawn,
        gallery=one.gallery,
        embedding=_embedding(one),
        provenance={**provenance(evaluation, model), **_budget()},
        card=card,
    )


def _embedding(one: EvaluatedTask) -> EmbeddingView | None:
    if one.embedding is None:
        return None
    found, images = one.embedding, one.images
    answers = of_answers(found, images, one.answers)
    return embedding_view(found, images.table, [of_labels(found, images), *answers, of_splits(found, images.table)])


def model_origin(model: BundleSpec) -> Origin:
    """Return what the model card states about how the model was made."""
    backbone = model.backbone
    return Origin(
        architecture=backbone.architecture,
        depth=backbone.depth,
        weights=backbone.weights.source,
        weights_sha256=backbone.weights.sha256,
        image_size=backbone.transform.size,
        trained_groups=model.trained_groups,
        known_labels=known_labels(model),
    )


def task_title(classes: Sequence[str], most: int = 4) -> str:
    """Return a title for the task, from its first class names."""
    more = f" and {len(classes) - most} more" if len(classes) > most else ""
    return " · ".join(classes[:most]) + more


def provenance(evaluation: Evaluation, model: BundleSpec) -> dict[str, dict[str, Any]]:
    """Return how the model was made, as facts by part."""
    backbone, transform = model.backbone, model.backbone.transform
    return {
        "Backbone": {
            "architecture": f"{backbone.architecture} ({backbone.library})",
            "weights": backbone.weights.source,
            "weights sha256": backbone.weights.sha256 or "none",
            "groups reused": f"{len(backbone.groups)} of {len(model.source_groups)}, up to {backbone.depth}",
            "features": ", ".join(model.head.taps) + f" ({model.head.features})",
            "groups trained further": ", ".join(model.trained_groups) or "none",
            **known_labels(model),
        },
        "Training": {
            "head": _head(model),
            "penalty of the head": f"{model.l2:g}",
            "temperature": f"{model.temperature:.3f}",
            **{f"stage {stage.name}": stage.reason for stage in model.stages},
            **({"not tried": model.untried} if model.untried else {}),
        },
        "Images": {
            "dataset digest": evaluation.dataset_digest,
            "input size of the backbone": f"{transform.size} by {transform.size} pixels, {transform.interpolation}",
            "mean, standard deviation": f"{_numbers(transform.mean)}; {_numbers(transform.std)}",
        },
        "Versions": {"code": git_revision() or "not in a git repository", "python": platform.python_version()}
        | package_versions(),
    }


def _budget() -> dict[str, dict[str, Any]]:
    """Return what the budget of the run left out, as one more part of the facts; empty if nothing was."""
    found = left_out()
    return {"Budget": {"left out": "; ".join(found)}} if found else {}


def known_labels(model: BundleSpec) -> dict[str, str]:
    """Return which classes the backbone's source classifier knows and its accuracy on them; empty if it knows none."""
    if not model.source_labels:
        return {}
    right = {f"right untrained, {score.split}": _zero_shot_accuracy(score) for score in model.zero_shot}
    return {"classes that its source knows": describe_overlap(model.source_labels), **right}


def _zero_shot_accuracy(score: ZeroShot) -> str:
    rate = Estimate(value=score.accuracy, low=score.low, high=score.high)
    return f"{percent(rate.value)} ({span(rate)}) of {score.images:,} images"


def _head(model: BundleSpec) -> str:
    started = ", started from the source's labels" if model.started_from_source else ""
    others = [f"{score.kind} {score.log_loss:.3f}" for score in model.heads]
    compared = f"; cross-validated log loss: {', '.join(others)}" if others else ""
    return f"{model.head.kind}{started}{compared}"


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that the numbers depend on."""
    found = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _write_figures(folder: Path, drawn: Mapping[str, str]) -> None:
    (folder / FIGURES_FOLDER).mkdir(exist_ok=True)
    for name, svg in drawn.items():
        write_text(folder / FIGURES_FOLDER / f"{name}.svg", standalone_svg(svg))


def _write_plots(folder: Path, evaluation: Evaluation, answers: Predictions) -> None:
    (folder / PLOTS_FOLDER).mkdir(exist_ok=True)
    test = answers.of_split("test")
    tables = evaluation_plots.tables(evaluation, test.targets, test.model) if evaluation.task.exclusive else {}
    if evaluation.learning:
        tables["learning"] = pd.DataFrame(evaluation.learning.points)
    for name, table in tables.items():
        write_text(folder / PLOTS_FOLDER / f"{name}.csv", _as_csv(table))


def _as_csv(table: pd.DataFrame) -> str:
    cells = table.map(lambda value: as_text(value) if isinstance(value, str) else value)
    return str(cells.rename(columns=lambda name: as_text(str(name))).to_csv(index=False))


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
