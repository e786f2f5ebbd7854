"""Register an evaluated bundle as a version in the registry, and promote it to champion if the gate permits it."""

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graft.backbones.weights import tensors_digest
from graft.evaluation.held_out_table import PREDICTIONS_FILE
from graft.evaluation.operating_point import choose_rule
from graft.evaluation.schema import Evaluation, PairedComparison
from graft.models.bundle import ModelBundle
from graft.models.export import pixel_network
from graft.models.task_heads import head_columns
from graft.params.register_model import RegisterModelParams
from graft.serving.challenger import Decision, Provenance, enter_registry
from graft.serving.champion import compare_with_champion
from graft.serving.descriptions import score_text
from graft.serving.evidence import Evidence, stored_probabilities
from graft.serving.packaging import BUNDLE, EVIDENCE, PackedPredictor, check_same_predictions, example_images, pack
from graft.serving.promotion_gate import ChampionComparison, reasons_by_task
from graft.serving.registered_version import Version
from graft.serving.registry import CHALLENGER, CHAMPION, ChampionChangedError, Registry
from graft.serving.server import ServingSpec
from graft.serving.serving_code import ServingCode
from graft.serving.training_images import TrainingImages
from graft.stats.decision_rule import Rule
from graft.stats.feature_columns import Columns

ATTEMPTS = 10


@dataclass(frozen=True)
class Registration:
    """The outcome of registering a model."""

    version: Version
    promoted: bool
    reasons: tuple[str, ...]
    """Why it was not promoted."""
    champion: ChampionComparison | None
    """The champion that it was compared with."""
    difference: float
    """Largest difference of a probability between the registered model and the evaluated one."""
    milliseconds: float
    """Time of one image through the registered model, independent of other load on the machine."""
    judged: Evaluation
    """The evaluation of the answers that the model serves."""

    @property
    def replaced(self) -> int | None:
        """The version that was champion when this one was judged."""
        return self.champion.version if self.champion else None

    @property
    def against_champion(self) -> PairedComparison | None:
        """This model and the champion on the same test images; None without a champion of the same classes."""
        if self.champion is None or self.champion.comparison is None:
            return None
        return PairedComparison.of("champion", self.champion.comparison)


def register(
    registry: Registry,
    bundle: ModelBundle,
    bundle_folder: Path,
    evidence: Evidence,
    params: RegisterModelParams,
    tags: Mapping[str, str],
    run_id: str | None = None,
    experiment: str | None = None,
) -> Registration:
    """Register the bundle as a challenger, check its predictions, apply the gate, and move the champion alias last.

    Args:
        registry: the registry to use.
        bundle: the model.
        bundle_folder: its files.
        evidence: its evaluation.
        params: the limits of the gate.
        tags: of the version, in addition to those made here.
        run_id: the run that registers it.
        experiment: id of that run's experiment.

    Raises:
        ParamsError: if it should decide by a threshold and there is none.
        RegistryError: if the registered model does not load or predicts differently; it then stays a challenger.
    """
    rules = _rules(evidence, params)
    rule, judged = rules[0], evidence.judged(rules[0])
    all_judged = [one.judged(own) for one, own in zip(evidence.by_task, rules, strict=True)]
    with tempfile.TemporaryDirectory() as name:
        packed = Path(name) / "model"
        code = _pack(bundle, bundle_folder, evidence, packed, rules)
        made = _tags(bundle, code, evidence, judged, rule)
        for found in all_judged[1:]:
            made |= {f"tasks.{found.task.name}.{name}": value for name, value in _scores(found).items()}
        champions: list[ChampionComparison | None] = []

        def decide(version: Version, milliseconds: float) -> Decision:
            promoted, reasons, champion = _decide(registry, version, evidence, all_judged, rules, milliseconds, params)
            champions.append(champion)
            return Decision("promoted" if promoted else "refused", tuple(reasons))

        entry = enter_registry(
            registry,
            packed,
            {**made, **tags},
            score_text(judged),
            evidence.smoke_test(),
            decide,
            Provenance(run_id, experiment),
        )
    return Registration(
        entry.version,
        entry.decision.verdict == "promoted",
        entry.decision.reasons,
        champions[-1],
        entry.difference,
        entry.milliseconds,
        judged,
    )


def summary(registration: Registration) -> dict[str, object]:
    """Return the outcome of a registration as plain JSON."""
    version = registration.version
    return {
        "name": version.name,
        "version": version.number,
        "uri": version.uri,
        "alias": CHAMPION if registration.promoted else CHALLENGER,
        "promoted": registration.promoted,
        "reasons": list(registration.reasons),
        "replaced": registration.replaced,
        "left_out": registration.champion.left_out if registration.champion else 0,
        "comparison": registration.against_champion and registration.against_champion.model_dump(mode="json"),
        "smoke_difference": registration.difference,
        "milliseconds": round(registration.milliseconds, 2),
        "tags": dict(version.tags),
    }


def check_packed_model(folder: Path) -> float:
    """Check that a registered model predicts its input example as in the evaluation; return the largest difference.

    The packed bundle is used only if the evaluation does not contain the example: a rollback to an old version must
    work even if the bundle format has changed since.

    Raises:
        RegistryError: if it does not load or predicts differently.
    """
    images = example_images(folder)
    ids = np.array([hashlib.sha256(image).hexdigest() for image in images], dtype=object)
    expected = stored_probabilities(folder / "artifacts" / EVIDENCE / PREDICTIONS_FILE, ids)
    if expected is None:
        bundle = ModelBundle.load(folder / "artifacts" / BUNDLE)
        expected = bundle.probabilities(bundle.logits(images))
    return check_same_predictions(PackedPredictor(folder), images, expected)


def _decide(
    registry: Registry,
    version: Version,
    evidence: Evidence,
    judged: Sequence[Evaluation],
    rules: Sequence[Rule | None],
    milliseconds: float,
    params: RegisterModelParams,
) -> tuple[bool, list[str], ChampionComparison | None]:
    """Compare with the champion at the moment the alias moves: another pipeline may promote during the comparison."""
    for _ in range(ATTEMPTS):
        champion = registry.champion()
        promoted_before = champion is not None and champion.number == version.number  # by a run that was killed then
        if promoted_before:
            champion = registry.champion_before(version.number)
        comparisons: list[ChampionComparison | None] = [None] * len(judged)
        if champion:
            comparisons = [*compare_with_champion(registry, champion, evidence, rules, params)]
        comparison = comparisons[0]
        replaced = champion.number if champion else None
        reasons = reasons_by_task(judged, comparisons, milliseconds, params)
        if reasons:
            return False, reasons, comparison
        try:
            # Of one that was promoted before, only the other alias may be left.
            registry.promote(version.number, expected_champion=version.number if promoted_before else replaced)
        except ChampionChangedError:
            continue
        return True, [], comparison
    return False, ["the champion kept changing while this model was compared with it: promote by hand"], comparison


def _rules(evidence: Evidence, params: RegisterModelParams) -> list[Rule | None]:
    """Return the decision rule of each task; of several, those with two classes alone have thresholds."""
    if not evidence.further:
        return [choose_rule(evidence.evaluation, params.decision)]
    binary = [one.evaluation.threshold is not None for one in evidence.by_task]
    if not any(binary):
        choose_rule(evidence.evaluation, params.decision)
    pairs = zip(evidence.by_task, binary, strict=True)
    return [choose_rule(one.evaluation, params.decision) if two else None for one, two in pairs]


def _pack(
    bundle: ModelBundle, bundle_folder: Path, evidence: Evidence, folder: Path, rules: Sequence[Rule | None]
) -> ServingCode:
    files, *of_further = (one.files() for one in evidence.by_task)
    seen = TrainingImages.of(evidence.dataset).write(folder.parent)
    tasks = {one.task.name: kept for one, kept in zip(bundle.further, of_further, strict=True)}
    return pack(
        pixel_network(bundle.all_heads),
        _serving_spec(bundle, rules),
        bundle_folder,
        folder,
        evidence.smallest_image(),
        [*files, seen],
        evidence_of_tasks=tasks,
    )


def _serving_spec(bundle: ModelBundle, rules: Sequence[Rule | None]) -> ServingSpec:
    bundles = bundle.by_task
    columns: Sequence[Columns] = [()]
    if bundle.further:
        _, columns = head_columns(bundle.spec.backbone, [one.spec.head for one in bundles])
    first, *further = (
        ServingSpec(
            labels=one.spec.labels,
            task=one.task,
            transform=bundle.transform,
            temperature=one.spec.temperature,
            rule=rule,
            columns=own,
        )
        for one, rule, own in zip(bundles, rules, columns, strict=True)
    )
    return first.model_copy(update={"further": tuple(further)})


def _tags(
    bundle: ModelBundle, code: ServingCode, evidence: Evidence, judged: Evaluation, rule: Rule | None
) -> dict[str, str]:
    return {
        "data.digest": evidence.dataset.spec.digest,
        "weights.digest": tensors_digest(bundle.module().state_dict()),
        "code.digest": code.digest,
        "backbone": bundle.spec.backbone.architecture,
        "classes": str(len(bundle.spec.labels)),
        "decision": f"{bundle.spec.labels[rule.positive]} from {rule.threshold:.4f} on" if rule else "argmax",
        **_scores(judged),
    }


def _scores(judged: Evaluation) -> dict[str, str]:
    """Return the scores on test as tags."""
    found = {name: score.value for name, score in judged.test.items() if score.value is not None}
    return {f"test.{name}": f"{value:.4f}" for name, value in found.items()}
