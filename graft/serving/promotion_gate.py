"""The promotion gate: may a new model replace the champion?

Everything is judged by the answers that are served: with a decision rule, by those under the rule. A limit counts as
violated only if the whole interval of the measured value is beyond it: a few hard images do not block a promotion. The
comparisons are the other way round: the new model must be *shown* to be better than guessing and not worse than the
champion on the same images, because a model in use has the benefit of the doubt.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graft.core.errors import ParamsError
from graft.evaluation.headline import beats_guessing, worth_using
from graft.evaluation.schema import Evaluation
from graft.evaluation.served_answers import ANSWER_METRICS
from graft.params.register_model import RegisterModelParams
from graft.stats.metrics import Metric
from graft.stats.model_comparison import Comparison, non_inferior

PROMOTE_IS_FALSE = "register_model.promote is false"


@dataclass(frozen=True)
class ChampionComparison:
    """The champion, and how the new model compares with it."""

    version: int
    classes: tuple[str, ...]
    comparison: Comparison | None
    """New model minus champion on the test images that the champion was not trained on; None if there are none, or if
    the classes differ."""
    left_out: int = 0
    """Test images that the champion was trained on, or whose group it was."""


def rejection_reasons(
    evaluation: Evaluation, champion: ChampionComparison | None, milliseconds: float, params: RegisterModelParams
) -> list[str]:
    """Return why the model may not become champion, one sentence per reason; empty if it may.

    Args:
        evaluation: result of `evaluate` on the test images.
        champion: the champion; None if there is none.
        milliseconds: time of one image through the packed model, as `latency` measures it.
        params: the limits.
    """
    return list(_reasons(evaluation, champion, milliseconds, params))


def reasons_by_task(
    evaluations: Sequence[Evaluation],
    champions: Sequence[ChampionComparison | None],
    milliseconds: float,
    params: RegisterModelParams,
) -> list[str]:
    """Return the reasons of all tasks; of several, each begins with the name of the task it is about.

    Args:
        evaluations: of each task.
        champions: the champion on each task.
        milliseconds: time of one image.
        params: the limits.
    """
    if len(evaluations) == 1:
        return rejection_reasons(evaluations[0], champions[0], milliseconds, params)
    found: list[str] = []
    for number, (evaluation, champion) in enumerate(zip(evaluations, champions, strict=True)):
        # What is no task's own is told once.
        own = params.model_copy(update={"promote": True, "metric": gate_metric(evaluation, params)})
        reasons = rejection_reasons(evaluation, champion, 0.0, own)
        found += [f"task {evaluation.task.name!r}: {reason}" for reason in reasons]
        if not number:
            found += _of_the_model(milliseconds, params)
    return found


def gate_metric(evaluation: Evaluation, params: RegisterModelParams) -> str:
    """Return the metric that the gate compares: the one asked for, or a task's own where it has none of that name."""
    return params.metric if params.metric in evaluation.test else evaluation.task.headline


def _reasons(
    evaluation: Evaluation, champion: ChampionComparison | None, milliseconds: float, params: RegisterModelParams
) -> Iterator[str]:
    if not params.promote:
        yield PROMOTE_IS_FALSE
    yield from _one_class_reasons(evaluation)
    yield from _majority_class_reasons(evaluation, params)
    if champion:
        yield from _champion_reasons(evaluation, champion, params)
    for row in evaluation.per_class:
        if row.images and row.recall.high is not None and row.recall.high < params.class_floor:
            yield (
                f"recall of class {row.label!r} is {row.recall.value:.3f} on {row.images} test images, below "
                f"register_model.class_floor={params.class_floor:g}"
            )
    error = evaluation.test.get("ece")
    if error and error.low is not None and error.low > params.max_ece:
        yield f"calibration error is {error.value:.3f}, above register_model.max_ece={params.max_ece:g}"
    yield from _too_slow(milliseconds, params)


def _of_the_model(milliseconds: float, params: RegisterModelParams) -> Iterator[str]:
    """Yield the reasons that are about no task."""
    if not params.promote:
        yield PROMOTE_IS_FALSE
    yield from _too_slow(milliseconds, params)


def _too_slow(milliseconds: float, params: RegisterModelParams) -> Iterator[str]:
    if milliseconds > params.max_milliseconds:
        yield (
            f"one image takes {milliseconds:.0f} ms, above register_model.max_milliseconds={params.max_milliseconds:g}"
        )


def _one_class_reasons(evaluation: Evaluation) -> Iterator[str]:
    tested = [row.label for row in evaluation.per_class if row.images]
    if len(tested) == 1 and evaluation.task.exclusive:
        yield f"all test images are {tested[0]!r}: they cannot show that the model tells classes apart"


def _majority_class_reasons(evaluation: Evaluation, params: RegisterModelParams) -> Iterator[str]:
    if params.metric not in evaluation.test:
        known = ", ".join(evaluation.test)
        raise ParamsError(f"register_model.metric={params.metric!r}: {evaluation.task.name!r} is measured by {known}")
    own, guess = evaluation.test[params.metric].value, evaluation.baseline["majority"][params.metric].value
    if own is None or guess is None:
        why = evaluation.undefined.get(params.metric, "see the report")
        yield f"{params.metric} is not defined on these test images: {why}"
    elif not (worth_using(evaluation) and beats_guessing(evaluation, params.metric)):
        difference = evaluation.comparison["majority"].differences[params.metric]
        yield (
            f"{params.metric} {own:.4f} is not shown to beat the majority class's {guess:.4f}: difference "
            f"{difference.value:+.4f}, interval {difference.low:+.4f} to {difference.high:+.4f}"
        )


def _champion_reasons(
    evaluation: Evaluation, champion: ChampionComparison, params: RegisterModelParams
) -> Iterator[str]:
    comparison = champion.comparison
    if comparison is None and champion.left_out:
        yield f"champion version {champion.version} was trained on all test images: use others, or promote by hand"
        return
    if comparison is None:
        yield (
            f"champion version {champion.version} has other classes ({_listed(champion.classes)}): set "
            "register_model.name for another task, or promote by hand"
        )
        return
    same = comparison.outcome == "identical" and params.metric in ANSWER_METRICS
    if same or non_inferior(comparison, params.tolerance, params.metric):
        return
    found = comparison.differences[params.metric]
    yield (
        f"{params.metric} is not shown to be within {params.tolerance:g} of champion version {champion.version}: "
        f"difference {found.value:+.4f}, interval {found.low:+.4f} to {found.high:+.4f} on "
        f"{evaluation.images['test'] - champion.left_out} test images"
        + (f", without {champion.left_out} that the champion was trained on" if champion.left_out else "")
    )


def compared_metrics(metric: str, evaluation: Evaluation) -> dict[str, Metric]:
    """Return the metrics to compare with the champion: the gate's metric, and accuracy for the outcome."""
    classes = evaluation.classes
    known = evaluation.task.metrics(1 if evaluation.positive is None else classes.index(evaluation.positive))
    return {name: known[name] for name in ("accuracy", metric)}


def _listed(classes: tuple[str, ...], most: int = 5) -> str:
    return ", ".join(classes[:most]) + (f" and {len(classes) - most} more" if len(classes) > most else "")
