"""The model card: what the model is for, what it was made from, how well it does, where it must not be trusted.

Mitchell et al., Model Cards for Model Reporting, FAT* 2019.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from graft.evaluation.headline import percent, span, verdict
from graft.evaluation.schema import Evaluation
from graft.reports.wording import GOALS, NAMES


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
    """What its source classifier knew of the classes, as facts by name."""


def model_card(found: Evaluation, origin: Origin) -> list[CardPart]:
    """Write the card of an evaluated model."""
    return [_about(found, origin), _use(found), _data(found), _metrics(found), _limits(found)]


def markdown(card: Sequence[CardPart], title: str) -> str:
    """Return the card as Markdown."""
    parts = [f"# {_plain(title)}"]
    for part in card:
        parts.append(f"## {part.title}")
        parts += [_plain(text) for text in part.paragraphs]
        if part.points:
            parts.append("\n".join(f"- {_plain(text)}" for text in part.points))
    return "\n\n".join(parts) + "\n"


def _about(found: Evaluation, origin: Origin) -> CardPart:
    trained = ", ".join(origin.trained_groups) or "none: it is used as it came"
    digest = f" (sha256 {origin.weights_sha256})" if origin.weights_sha256 else ""
    return CardPart(
        "The model",
        [_what_it_does(found)],
        [
            f"Backbone: {origin.architecture}, reused up to group {origin.depth}, at {origin.image_size} pixels.",
            f"Weights it started from: {origin.weights}{digest}.",
            f"Groups of the backbone trained further: {trained}.",
            *(f"{name[0].upper()}{name[1:]}: {fact}." for name, fact in origin.known_labels.items()),
        ],
    )


def _what_it_does(found: Evaluation) -> str:
    if found.task.exclusive:
        return f"It names an image as one of {len(found.classes)} classes: {_listed(found.classes)}."
    return f"It says of an image which of {len(found.classes)} labels hold: {_listed(found.classes)}."


def _use(found: Evaluation) -> CardPart:
    return CardPart(
        "Intended use",
        ["Images of the same kind and origin as the training images, showing one of its classes each."],
        [
            _silence(found),
            "Where a wrong answer harms a person, a person has to decide; the model may sort what they see first.",
        ],
    )


def _silence(found: Evaluation) -> str:
    if not found.trust:
        return "It always answers with one of its classes, also for an image that shows none of them."
    answered, right = percent(found.trust.answered.value), percent(found.trust.accuracy_answered.value)
    return (
        "It can abstain, and should be let: where it finds an image foreign or more than one class plausible. On test "
        f"it answers {answered} of the images and is right on {right} of those. Other things can still pass."
    )


def _data(found: Evaluation) -> CardPart:
    counts = ", ".join(f"{number:,} {split}" for split, number in found.images.items())
    return CardPart("Data", [f"{counts} images. Digest of images, labels and splits: {found.dataset_digest}."], [])


def _metrics(found: Evaluation) -> CardPart:
    shown = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "ece")
    rates = [
        f"{NAMES[name]}: {percent(found.test[name].value)} ({span(found.test[name])})"
        for name in shown
        if name in found.test
    ]
    summary = verdict(found)
    return CardPart(
        "Metrics",
        [f"{summary.headline}: {summary.basis} Measured once, on images that no choice was made on."],
        [*rates, *_positive(found), *(remark.text for remark in summary.remarks)],
    )


def _positive(found: Evaluation) -> list[str]:
    if found.positive is None:
        return []
    lines = [f"Positive class, which AUROC and average precision are of: “{found.positive}”."]
    if chosen := found.threshold:
        rates = ", ".join(f"{name} {percent(chosen.test[name].value)}" for name in ("precision", "recall"))
        goal = GOALS.get(chosen.goal, chosen.goal)
        lines.append(f"Named from a probability of {chosen.threshold:.3f} on (chosen for {goal}): {rates} on test.")
    return lines


def _limits(found: Evaluation) -> CardPart:
    worst = [row for row in found.per_class if row.images][:3]
    rows = [f"“{row.label}”: finds {percent(row.recall.value)} of {row.images} ({span(row.recall)})" for row in worst]
    return CardPart(
        "Limits",
        [
            "The numbers hold for images drawn like the test images. Another camera, place or season can lower them, "
            f"and nothing here would show it.{' Its weakest classes:' if rows else ''}"
        ],
        rows,
    )


def _listed(classes: Sequence[str], most: int = 12) -> str:
    more = f" and {len(classes) - most} more" if len(classes) > most else ""
    return ", ".join(f"“{name}”" for name in classes[:most]) + more


def _plain(text: str) -> str:
    """Return `text` with what Markdown or HTML would read as markup escaped: a class may be called anything."""
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", " ".join(text.split()))
