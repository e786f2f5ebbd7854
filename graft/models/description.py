"""What a model says of itself: its labels, its size and where it is from."""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graft.models.bundle import ModelBundle

SHOWN_LABELS = 8
_HEADINGS = ("labels", "network", "from")


def lines(model: "ModelBundle") -> tuple[str, str, str]:
    """Return the labels, the size, and the origin."""
    spec, transform = model.spec, model.transform
    parameters = sum(parameter.numel() for parameter in model.classifier.parameters())
    size = (
        f"{spec.backbone.architecture} up to {spec.backbone.depth}, {transform.size} x {transform.size} pixels; "
        f"{parameters / 1e6:.1f} M parameters"
    )
    labels = f"{len(spec.labels):,} labels: {_listed(spec.labels)}"
    if model.further:
        named = (f"{one.task.name} ({len(one.spec.labels):,}: {_listed(one.spec.labels)})" for one in model.by_task)
        labels = f"{len(model.by_task)} tasks: {'; '.join(named)}"
    return labels, size, model.origin or "memory"


def text(model: "ModelBundle") -> str:
    """Return three lines."""
    labels, size, origin = lines(model)
    return f"Model of {labels}\n{size}\nfrom {origin}"


def html(model: "ModelBundle") -> str:
    """Return the same as a table."""
    cells = zip(_HEADINGS, lines(model), strict=True)
    rows = "".join(f"<tr><th>{heading}</th><td>{escape(line)}</td></tr>" for heading, line in cells)
    return f"<table>{rows}</table>"


def _listed(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:SHOWN_LABELS])
    return f"{shown} and {len(labels) - SHOWN_LABELS:,} more" if len(labels) > SHOWN_LABELS else shown
