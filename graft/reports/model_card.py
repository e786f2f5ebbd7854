"""The model card: what the model is for, what it was made from, how well it performs, and its limits.

Mitchell et al., Model Cards for Model Reporting, FAT* 2019.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from graft.evaluation.headline import percent, span, verdict
from graft.evaluation.schema import Evaluation
from graft.reports.wording import METRIC_NAMES, THRESHOLD_GOALS


class CardPart(NamedTuple):
    """One heading with its text."""

    title: str
    paragraphs: list[str]
    points: list[str]


class Origin(NamedTuple):
    """What the model was made from."""

    architecture: str
    depth: str
    """Last group of the backbone that is reused."""
    weights: str
    weights_sha256: str | None
    image_size: int
    trained_groups: Sequence[str]
    """Groups of the backbone that were trained further."""
    known_labels: Mapping[str, str] = {}
    """Classes that its source classifier knew already, as facts by name."""


def model_card(evaluation: Evaluation, origin: Origin) -> list[CardPart]:
    """Write the card of an evaluated model."""
    return [_about(evaluation, origin), _use(evaluation), _data(evaluation), _metrics(evaluation), _limits(evaluation)]


def markdown(card: Sequence[CardPart], title: str) -> str:
    """Return the card as Markdown."""
    parts = [f"# {_plain(title)}"]
    for part in card:
        parts.append(f"## {part.title}")
        parts += [_plain(text) for text in part.paragraphs]
        if part.points:
            parts.append("\n".join(f"- {_plain(text)}" for text in part.points))
    return "\n\n".join(parts) + "\n"


def _about(evaluation: Evaluation, origin: Origin) -> CardPart:
    trained = ", ".join(origin.trained_groups) or "none: its pretrained weights are unchanged"
    digest = f" (sha256 {origin.weights_sha256})" if origin.weights_sha256 else ""
    return CardPart(
        "The model",
        [_what_it_does(evaluation)],
        [
            f"Backbone: {origin.architecture}, reused up to group {origin.depth}, at {origin.image_size} pixels.",
            f"Pretrained weights: {origin.weights}{digest}.",
            f"Groups of the backbone trained further: {trained}.",
            *(f"{name[0].upper()}{name[1:]}: {fact}." for name, fact in origin.known_labels.items()),
        ],
    )


def _what_it_does(evaluation: Evaluation) -> str:
    if evaluation.task.exclusive:
        return f"It assigns an image to one of {len(evaluation.classes)} classes: {_listed(evaluation.classes)}."
    return f"It predicts which of {len(evaluation.classes)} labels apply to an image: {_listed(evaluation.classes)}."


def _use(evaluation: Evaluation) -> CardPart:
    return CardPart(
        "Intended use",
        ["Images of the same kind and origin as the training images, showing one of its classes each."],
        [
            _abstention(evaluation),
            "Where a wrong answer can harm people, a person must decide; the model may only set the order of review.",
        ],
    )


def _abstention(evaluation: Evaluation) -> str:
    if not evaluation.trust:
        return "It always answers with one of its classes, even for an image that shows none of them."
    answered, right = percent(evaluation.trust.answered.value), percent(evaluation.trust.accuracy_answered.value)
    return (
        "It can abstain, and you should let it: when an image is out-of-distribution or more than one class is "
        f"plausible. Of the test images it answers {answered} and is right on {right} of those. Some images of other "
        "things are not recognised as such."
    )


def _data(evaluation: Evaluation) -> CardPart:
    counts = ", ".join(f"{number:,} {split}" for split, number in evaluation.images.items())
    return CardPart("Data", [f"{counts} images. Digest of images, labels and splits: {evaluation.dataset_digest}."], [])


def _metrics(evaluation: Evaluation) -> CardPart:
    shown = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "ece")
    rates = [
        f"{METRIC_NAMES[name]}: not defined ({evaluation.undefined[name]})"
        if name in evaluation.undefined
        else f"{METRIC_NAMES[name]}: {percent(evaluation.test[name].value)} ({span(evaluation.test[name])})"
        for name in shown
        if name in evaluation.test
    ]
    summary = verdict(evaluation)
    return CardPart(
        "Metrics",
        [f"{summary.headline}: {summary.basis} Measured once, on images that were not used for any choice."],
        [*rates, *_positive(evaluation), *(remark.text for remark in summary.remarks)],
    )


def _positive(evaluation: Evaluation) -> list[str]:
    if evaluation.positive is None:
        return []
    lines = [f"Positive class (AUROC and average precision refer to it): “{evaluation.positive}”."]
    if chosen := evaluation.threshold:
        rates = ", ".join(f"{name} {percent(chosen.test[name].value)}" for name in ("precision", "recall"))
        goal = THRESHOLD_GOALS.get(chosen.goal, chosen.goal)
        lines.append(f"Predicted from a probability of {chosen.threshold:.3f} (chosen for {goal}): {rates} on test.")
    return lines


def _limits(evaluation: Evaluation) -> CardPart:
    worst = [row for row in evaluation.per_class if row.images][:3]
    rows = [f"“{row.label}”: finds {percent(row.recall.value)} of {row.images} ({span(row.recall)})" for row in worst]
    return CardPart(
        "Limits",
        [
            "The numbers hold for images from the same distribution as the test images. Another camera, place or "
            f"season can lower them, and nothing here would show it.{' Its weakest classes:' if rows else ''}"
        ],
        rows,
    )


def _listed(classes: Sequence[str], most: int = 12) -> str:
    more = f" and {len(classes) - most} more" if len(classes) > most else ""
    return ", ".join(f"“{name}”" for name in classes[:most]) + more


def _plain(text: str) -> str:
    """Return `text` with Markdown and HTML markup escaped: a class name may contain any characters."""
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", " ".join(text.split()))
