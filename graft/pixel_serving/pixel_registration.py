"""The step `register_model` for masks and objects: a new version, its answers checked, the gate, the alias last."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from graft.core.atomic import read_json, write_json, write_text
from graft.core.errors import DataError, RegistryError
from graft.data.source import registered_name
from graft.dense.pixel_scores import PHOTOS_FILE, SCORES_FILE, Score, calibration_error
from graft.masks.dataset import MaskDataset
from graft.masks.scores import mean_interval
from graft.params.register_model import RegisterModelParams
from graft.pixel_reports.mask_page import champion_row
from graft.pixel_serving.pixel_kinds import Evaluated, PixelModel, open_model, read_evaluation
from graft.pixel_serving.pixel_packaging import PackedPixelPredictor, pack_pixels
from graft.reports.registry_decision import CHAMPION_MARK, with_decision
from graft.runs import tracking
from graft.runs.run_log import Log
from graft.runs.step import Metrics
from graft.serving.packaging import BUNDLE, EVIDENCE, NETWORK
from graft.serving.registered_version import Version
from graft.serving.registry import CHALLENGER, CHAMPION, ChampionChangedError, Registry
from graft.serving.training_images import TrainingImages
from graft.tasks.pixels import refuse_others

USED_PARAMS = ("name", "promote", "tolerance", "class_floor", "max_ece", "max_milliseconds")
SMOKE_PHOTOS, DIFFERING_PIXELS = 4, 0.002
"""Photos that are answered again by the registered model, and the share of their pixels that may differ: those where
two classes are equally likely to the last digit."""
ATTEMPTS = 10
BLIND = ("all background", "mean mask", "no answer", "the same objects everywhere")
"""Baselines that a model must be shown to beat: they see nothing."""


@dataclass(frozen=True)
class AgainstChampion:
    """The champion, and how the new model compares with it on the same photos."""

    version: int
    gain: Score | None
    """New model minus champion; None if they cannot be compared."""
    why: str = ""
    photos: int = 0


def register_pixels(
    dataset: Path, model: Path, evaluation: Path, registration: Path, params: RegisterModelParams, log: Log
) -> Metrics:
    """Register a model of masks or objects and promote it if it is good enough."""
    found, photos = read_evaluation(evaluation)
    data = MaskDataset.read(dataset, found.task.kind)
    refuse_others("register_model", params, USED_PARAMS, found.task.kind)
    if found.dataset_digest != data.spec.digest:
        raise DataError(f"{evaluation}: evaluated on another dataset than {dataset}; run evaluate again")
    record = tracking.current()
    registry = Registry.open(registered_name(params.name, data.spec.name), record.tracking_uri if record else None)
    opened = open_model(model)
    test = data.rows("test")
    smoke = [data.photos[int(row)] for row in test[:: max(1, len(test) // SMOKE_PHOTOS)][:SMOKE_PHOTOS]]
    version = _register(registry, opened, model, data, evaluation, found, smoke, record)
    try:
        with registry.downloaded(version) as folder:
            predictor = PackedPixelPredictor(folder)
            difference = check_same_answers(predictor, smoke, opened)
            latency = predictor.latency(smoke)
    except RegistryError as error:
        registry.set_tags(version.number, {"verdict": "broken", "reason.1": str(error)})
        raise
    promoted, reasons, champion = _decide(registry, version, found, photos, data, latency.milliseconds, params)
    verdict = {"verdict": "promoted" if promoted else "refused", **latency.tags}
    registry.set_tags(version.number, verdict | {f"reason.{at}": text for at, text in enumerate(reasons, 1)})
    result: dict[str, Any] = {
        "name": version.name,
        "version": version.number,
        "uri": version.uri,
        "alias": CHAMPION if promoted else CHALLENGER,
        "promoted": promoted,
        "reasons": reasons,
        "replaced": champion.version if champion else None,
        "comparison": champion.gain.model_dump(mode="json") if champion and champion.gain else None,
        "smoke_difference": difference,
        "milliseconds": round(latency.milliseconds, 2),
        "tracking_uri": registry.tracking_uri,
        "run_id": record.pipeline_run_id if record else None,
        "left_out": 0,
    }
    registration.mkdir(parents=True)
    write_json(registration / "registration.json", result)
    _write_page(evaluation / "report.html", registration, result, champion)
    log.artifact(registration)
    log.tag("model", version.uri)
    log.summary({"register_model.milliseconds": latency.milliseconds})
    tracking.finish_pipeline()
    names = ("name", "version", "alias", "promoted", "reasons", "left_out", "tracking_uri", "run_id")
    return {name: result[name] for name in names}


def check_packed_pixels(folder: Path) -> float:
    """Check that a registered model answers its input example as its own bundle does; return the difference.

    Raises:
        RegistryError: if it does not load or answers differently.
    """
    predictor = PackedPixelPredictor(folder)
    return check_same_answers(predictor, predictor.examples(), open_model(folder / "artifacts" / BUNDLE))


def check_same_answers(predictor: PackedPixelPredictor, photos: Sequence[bytes], model: PixelModel) -> float:
    """Return the largest difference between the answers of a packed model and of its bundle.

    Raises:
        RegistryError: if it is too large.
    """
    worst = model.difference(predictor.predict(photos), photos)
    if not worst <= DIFFERING_PIXELS:
        raise RegistryError(
            f"the registered model answers differently from the bundle: {worst:.2g} (at most {DIFFERING_PIXELS})"
        )
    return worst


def _register(
    registry: Registry,
    opened: PixelModel,
    model: Path,
    data: MaskDataset,
    evaluation: Path,
    found: Evaluated,
    smoke: Sequence[bytes],
    record: Any,
) -> Version:
    scores = {f"test.{name}": f"{score.value:.4f}" for name, score in found.test.items() if score.value is not None}
    headline = found.test[found.headline]
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / NETWORK).mkdir()
        spec = opened.write_network(work / NETWORK)
        seen = TrainingImages.of_rows(data.table[(data.table["split"] != "test").to_numpy()]).write(work)
        evidence = [evaluation / SCORES_FILE, evaluation / PHOTOS_FILE, seen]
        example = min(smoke, key=len)
        code = pack_pixels(opened.served, work / NETWORK, spec, model, work / "model", example, evidence)
        tags = {
            "task": found.task.kind,
            "data.digest": data.spec.digest,
            "weights.digest": opened.digest,
            "code.digest": code.digest,
            "backbone": opened.backbone,
            "classes": str(len(found.classes)),
            **scores,
            **tracking.provenance(),
        }
        text = f"{found.headline} {headline.value:.3f} on {found.photos['test']} test photos"
        run_id, experiment = (record.run_id, record.experiment_id) if record else (None, None)
        return registry.register(work / "model", tags, text, experiment, run_id)


def _decide(
    registry: Registry,
    version: Version,
    found: Evaluated,
    photos: pd.DataFrame,
    data: MaskDataset,
    milliseconds: float,
    params: RegisterModelParams,
) -> tuple[bool, list[str], AgainstChampion | None]:
    for _ in range(ATTEMPTS):
        champion = registry.champion()
        against = _compare(registry, champion, found, photos, data) if champion else None
        reasons = list(rejections(found, against, milliseconds, params))
        if reasons:
            return False, reasons, against
        try:
            registry.promote(version.number, expected_champion=champion.number if champion else None)
        except ChampionChangedError:
            continue
        return True, [], against
    return False, ["the champion kept changing while this model was compared with it: promote by hand"], None


def rejections(
    found: Evaluated, champion: AgainstChampion | None, milliseconds: float, params: RegisterModelParams
) -> Iterator[str]:
    """Yield why the model may not become champion, one sentence per reason."""
    if not params.promote:
        yield "register_model.promote is false"
    for name, gain in found.gains.items():
        if name in BLIND and not (gain.low is not None and gain.low > 0):
            yield f"{found.paired} is not shown to be above that of {name}: {_span(gain)}"
    for row in found.per_class:
        if row.photos and row.judged.high is not None and row.judged.high < params.class_floor:
            yield (
                f"the score of class {row.label!r} is {row.judged.value:.3f} on {row.photos} test photos, below "
                f"register_model.class_floor={params.class_floor:g}"
            )
    error = calibration_error(found.bins)
    if error > params.max_ece:
        yield f"calibration error is {error:.3f}, above register_model.max_ece={params.max_ece:g}"
    if milliseconds > params.max_milliseconds:
        yield (
            f"one image takes {milliseconds:.0f} ms, above register_model.max_milliseconds={params.max_milliseconds:g}"
        )
    if champion is not None:
        if champion.gain is None:
            yield f"champion version {champion.version} {champion.why}"
        elif not (champion.gain.low is not None and champion.gain.low >= -params.tolerance):
            yield (
                f"{found.paired} is not shown to be within {params.tolerance:g} of champion version "
                f"{champion.version}: {_span(champion.gain)} on {champion.photos} test photos"
            )


def _compare(
    registry: Registry, champion: Version, found: Evaluated, photos: pd.DataFrame, data: MaskDataset
) -> AgainstChampion:
    with registry.downloaded(champion) as folder:
        spec: Any = read_json(folder / "artifacts" / NETWORK / "serving.json")
        if spec.get("task") != found.task.model_dump(mode="json"):
            why = "is of another task: set register_model.name for this one, or promote by hand"
            return AgainstChampion(champion.number, None, why)
        table = data.table.iloc[photos["row"].to_numpy()]
        known = TrainingImages.read(folder / "artifacts" / EVIDENCE)
        fair: npt.NDArray[np.bool_] = ~known.contain(table) if known else np.ones(len(table), dtype=np.bool_)
        if not fair.any():
            return AgainstChampion(champion.number, None, "was trained on all test photos: promote by hand")
        own = photos[fair]
        stored = read_evaluation(folder / "artifacts" / EVIDENCE)[1].drop_duplicates("id").set_index("id")
        if set(own["id"]) <= set(stored.index):
            theirs = stored.loc[own["id"], found.paired].to_numpy(dtype=np.float64)
        else:
            champion_model = open_model(folder / "artifacts" / BUNDLE)
            theirs = champion_model.photo_scores(data, own["row"].to_numpy())
    gains = own[found.paired].to_numpy(dtype=np.float64) - theirs
    gain = Score.of(mean_interval(gains, own["group"].to_numpy(dtype=object), 1000, found.confidence, 0))
    return AgainstChampion(champion.number, gain, photos=len(own))


def _write_page(page: Path, registration: Path, result: dict[str, Any], champion: AgainstChampion | None) -> None:
    if not page.is_file():
        return
    title = f"{result['name']} version {result['version']}"
    decided = with_decision(page.read_text("utf-8"), title, promoted=result["promoted"], reasons=result["reasons"])
    if champion is not None and champion.gain is not None:
        decided = decided.replace(CHAMPION_MARK, champion_row(champion.version, champion.gain), 1)
    write_text(registration / "report.html", decided)


def _span(score: Score) -> str:
    if score.value is None or score.low is None or score.high is None:
        return "it is not defined on these photos"
    return f"difference {score.value:+.4f}, interval {score.low:+.4f} to {score.high:+.4f}"
