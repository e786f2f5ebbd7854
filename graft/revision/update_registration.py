"""Register an updated model as a version, and promote it if the guard permits it and nobody was faster.

The champion moves only from the version that the update began with: of two updates that ran at once, the second stays a
challenger and says so. Neither is lost.
"""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from graft.backbones.weights import tensors_digest
from graft.continual.history import History
from graft.data.dataset import ImageDataset
from graft.evaluation.held_out_table import PREDICTIONS_FILE
from graft.evaluation.schema import SCORES_FILE, read_evaluation
from graft.models.bundle import ModelBundle
from graft.models.export import pixel_network
from graft.params.register_model import RegisterModelParams
from graft.revision.examination import NUMBERS, PAGE, read_examination
from graft.serving.challenger import Decision, Provenance, SmokeTest, enter_registry
from graft.serving.packaging import pack
from graft.serving.promotion_gate import rejection_reasons
from graft.serving.registered_version import Version
from graft.serving.registry import CHALLENGER, CHAMPION, ChampionChangedError, Registry
from graft.serving.server import ServingSpec
from graft.serving.training_images import TRAINING_IMAGES_FILE

SMOKE_IMAGES = 4
KEPT = (NUMBERS, PAGE, SCORES_FILE, PREDICTIONS_FILE, TRAINING_IMAGES_FILE)
"""Files of an examination that are packed with the model."""


def register_updated(
    registry: Registry,
    bundle: ModelBundle,
    bundle_folder: Path,
    examination: Path,
    images: ImageDataset,
    params: RegisterModelParams,
    tags: Mapping[str, str],
    run_id: str | None = None,
    experiment: str | None = None,
) -> dict[str, Any]:
    """Register an updated bundle as a challenger, check it as it is served, and move the champion last.

    Args:
        registry: the registry to use.
        bundle: the model.
        bundle_folder: its files.
        examination: what `examine` wrote of it.
        images: some images to check it with.
        params: the limits of the gate.
        tags: of the version, in addition to those made here.
        run_id: the run that registers it.
        experiment: id of that run's experiment.

    Returns:
        The outcome as plain JSON.

    Raises:
        RegistryError: if the registered model does not load or predicts differently; it then stays a challenger.
    """
    examined = read_examination(examination)
    reader, some = images.reader(), np.linspace(0, len(images) - 1, min(len(images), SMOKE_IMAGES)).astype(int)
    smoke = [reader[int(row)] for row in some]
    spec = ServingSpec(
        labels=bundle.spec.labels, task=bundle.task, transform=bundle.transform, temperature=bundle.spec.temperature
    )
    with tempfile.TemporaryDirectory() as name:
        packed = Path(name) / "model"
        kept = [examination / file for file in KEPT if (examination / file).is_file()]
        code = pack(pixel_network(bundle.classifier), spec, bundle_folder, packed, min(smoke, key=len), kept)
        made = {
            "code.digest": code.digest,
            "weights.digest": tensors_digest(bundle.module().state_dict()),
            **_tags(bundle, bundle_folder, examined),
        }

        def decide(version: Version, milliseconds: float) -> Decision:
            if CHAMPION in version.aliases:  # promoted by a run that was killed before it could say so
                registry.promote(version.number, expected_champion=version.number)
                return Decision("promoted", ())
            gate = _gate_reasons(examination, milliseconds, params)
            reasons = [*examined["guard"], *gate, *_base_reasons(registry, examined)]
            reasons = reasons or list(_promote(registry, version, examined))
            return Decision("refused" if reasons else "promoted", tuple(reasons))

        entry = enter_registry(
            registry,
            packed,
            made | dict(tags),
            examined["headline"],
            SmokeTest(smoke, bundle.probabilities(bundle.logits(smoke))),
            decide,
            Provenance(run_id, experiment),
        )
    version, promoted = entry.version, entry.decision.verdict == "promoted"
    return {
        "name": version.name,
        "version": version.number,
        "uri": version.uri,
        "alias": CHAMPION if promoted else CHALLENGER,
        "promoted": promoted,
        "reasons": list(entry.decision.reasons),
        "replaced": examined["base"]["version"] if promoted else None,
        "smoke_difference": entry.difference,
        "milliseconds": round(entry.milliseconds, 2),
        "tracking_uri": registry.tracking_uri,
    }


def _gate_reasons(examination: Path, milliseconds: float, params: RegisterModelParams) -> list[str]:
    if not (examination / SCORES_FILE).is_file():
        return []
    return rejection_reasons(read_evaluation(examination), None, milliseconds, params)


def _base_reasons(registry: Registry, examined: Mapping[str, Any]) -> Iterator[str]:
    base, champion = examined["base"]["version"], registry.champion()
    if base is None:
        yield "the update began with a bundle's folder, not with the champion: promote by hand"
    elif champion and champion.number != base:
        yield _overtaken(champion.number, base)


def _promote(registry: Registry, version: Version, examined: Mapping[str, Any]) -> Iterator[str]:
    base, champion = examined["base"]["version"], registry.champion()
    try:
        registry.promote(version.number, expected_champion=base if champion else None)
    except ChampionChangedError:
        now = registry.champion()
        yield _overtaken(now.number if now else 0, base)


def _overtaken(champion: int, base: int) -> str:
    return (
        f"version {champion} is the champion, and this update began with version {base}: update the champion with the "
        "same images, or promote by hand"
    )


def _tags(bundle: ModelBundle, folder: Path, examined: Mapping[str, Any]) -> dict[str, str]:
    experiences = History.load(folder).experiences
    base, found = examined["base"], examined["continual"]
    tags = {
        "data.digest": experiences[-1].digest,
        "backbone": bundle.spec.backbone.architecture,
        "classes": str(len(bundle.spec.labels)),
        "decision": "argmax",
        "update.method": examined["method"],
        "update.experiences": str(len(experiences)),
        "update.of": str(base["version"] or base["address"]),
    }
    scores = {name: found[name]["value"] for name in ("acc", "bwt", "forgetting")}
    return tags | {f"continual.{name}": f"{value:.4f}" for name, value in scores.items() if value is not None}
