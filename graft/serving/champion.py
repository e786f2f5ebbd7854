"""A challenger beside the champion: the answers that both serve, on test images that the champion has not seen."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from graft.evaluation.held_out_table import PREDICTIONS_FILE
from graft.evaluation.schema import task_evaluation
from graft.evaluation.served_answers import ANSWER_METRICS, answered
from graft.params.register_model import RegisterModelParams
from graft.serving.evidence import Evidence, stored_probabilities
from graft.serving.packaging import EVIDENCE, PackedPredictor
from graft.serving.promotion_gate import ChampionComparison, compared_metrics, gate_metric
from graft.serving.registered_version import Version
from graft.serving.registry import Registry
from graft.serving.training_images import TrainingImages
from graft.stats.decision_rule import Rule
from graft.stats.model_comparison import compare


def compare_with_champion(
    registry: Registry,
    champion: Version,
    evidence: Evidence,
    rules: Sequence[Rule | None],
    params: RegisterModelParams,
) -> Iterator[ChampionComparison]:
    """Yield the comparison of each task with the champion's task of the same name."""
    with registry.downloaded(champion) as folder:
        predictor = PackedPredictor(folder)
        for one, rule in zip(evidence.by_task, rules, strict=True):
            yield _compare_task(predictor, folder, champion.number, one, rule, params)


def _compare_task(
    predictor: PackedPredictor,
    folder: Path,
    number: int,
    evidence: Evidence,
    rule: Rule | None,
    params: RegisterModelParams,
) -> ChampionComparison:
    dataset, task = evidence.dataset, evidence.evaluation.task
    served = (predictor.task, *predictor.further)
    place = next((place for place, other in enumerate(served) if other.question == task.question), None)
    if place is None:
        return ChampionComparison(number, predictor.labels, None)
    their_task = served[place]
    table = dataset.table.iloc[evidence.rows]
    known = TrainingImages.read(folder / "artifacts" / EVIDENCE)
    fair = ~known.contain(table) if known else np.ones(len(table), dtype=np.bool_)
    rows, left_out = evidence.rows[fair], int((~fair).sum())
    if len(rows) == 0:
        return ChampionComparison(number, their_task.labels, None, left_out)
    evaluated = folder / "artifacts" / EVIDENCE
    stored = (task_evaluation(evaluated, their_task.name) if place else evaluated) / PREDICTIONS_FILE
    theirs = stored_probabilities(stored, dataset.table["id"].to_numpy()[rows])
    if theirs is None:  # the champion was evaluated on other test images: predict these now
        reader = dataset.reader()
        theirs = predictor.probabilities_by_task(reader[int(row)] for row in rows)[place]
    targets, ours = dataset.targets()[rows], evidence.probabilities[fair]
    # Each model by the answers that it serves; a ranking metric by its probabilities.
    our_answers, their_answers = answered(task, ours, rule), answered(their_task, theirs, predictor.rules[place])
    metric = gate_metric(evidence.evaluation, params)
    if metric in ANSWER_METRICS and task.exclusive:
        ours, theirs = our_answers, their_answers
    comparison = compare(
        targets,
        ours,
        theirs,
        dataset.table["group"].to_numpy()[rows],
        metrics=compared_metrics(metric, evidence.evaluation),
        confidence=evidence.evaluation.confidence,
        strata=task.strata(targets),
        correct=(task.correct(our_answers, targets), their_task.correct(their_answers, targets)),
        same=task.answers(our_answers).chosen == their_task.answers(their_answers).chosen,
    )
    return ChampionComparison(number, their_task.labels, comparison, left_out)
