"""Which code reviews and evaluates which kind of task about pixels."""

from collections.abc import Callable

from graft.runs.step import Metrics
from graft.tasks.pixels import Kind


def evaluator(kind: Kind) -> Callable[..., Metrics]:
    """Return what `evaluate` does: (dataset, features, head, model, evaluation, params, log) to metrics."""
    del kind
    from graft.reports.mask_report import evaluate_masks

    return evaluate_masks


def reviewer(kind: Kind) -> Callable[..., Metrics]:
    """Return what `review_features` does: (dataset, head, review, params, log) to metrics."""
    del kind
    from graft.reports.mask_review import review_masks

    return review_masks
