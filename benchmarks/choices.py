"""Do the closed-form probes choose the groups that cross-validated logistic regressions would?"""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from benchmarks.accuracy import dataset_folder
from benchmarks.measure import Result, Spread
from graft.backbones.feature_store import FeatureStore
from graft.backbones.incremental import extract_into
from graft.heads.cross_validation import CrossValidated
from graft.heads.depth_selection import HeadChoice, choose_head
from graft.heads.full_fit import fit_to_all_images
from graft.heads.head_inputs import HeadInputs, prepare_head_inputs
from graft.heads.protocols import Floats
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.train_head import TrainHeadParams
from graft.params.validate_data import ValidateDataParams
from graft.quality.validation import validate
from graft.stats.paired_difference import paired_difference

DATASETS = ("digits", "hymenoptera", "flower_photos_mini", "sketches")


class LogisticInputs(HeadInputs):
    """The same inputs, but groups are compared by cross-validated logistic regressions."""

    def probe(self, taps: Sequence[str]) -> CrossValidated:  # type: ignore[override]
        """Return the cross-validated head."""
        return self.cross_validate(taps)


def choices(work: Path, rounds: int) -> list[Result]:
    """Test log loss of heads on the groups chosen in closed form, less that on those chosen by logistic regression."""
    results = []
    for name in DATASETS:
        dataset = validate(dataset_folder(name, work), ValidateDataParams(on_leakage="drop")).write(work / name / "set")
        extract_into(work / name / "features", dataset, ExtractFeaturesParams())
        store = FeatureStore.read(work / name / "features")
        same, losses, notes = 0, [], []
        for seed in range(rounds):
            inputs = prepare_head_inputs(store, TrainHeadParams(seed=seed))
            exact = LogisticInputs(**{field.name: getattr(inputs, field.name) for field in fields(inputs)})
            quick, slow = (choose_head(one, "auto", "auto") for one in (inputs, exact))
            same += quick.taps == slow.taps
            losses.append(paired_difference(_test_losses(inputs, slow), _test_losses(inputs, quick)))
            notes.append(f"{_named(quick)} / {_named(slow)}")
        gains = [-loss.gain for loss in losses]
        error = max(loss.error for loss in losses)
        note = f"same choice in {same} of {rounds} seeds; standard error {error:.3f}; {'; '.join(dict.fromkeys(notes))}"
        results.append(Result(f"{name}: test log loss, closed form less logistic", Spread.of(gains), "", note=note))
    return results


def _test_losses(inputs: HeadInputs, choice: HeadChoice) -> Floats:
    found, rows, task = fit_to_all_images(inputs, choice), inputs.store.labelled("test"), inputs.task
    logits = found.fitted.logits(inputs.features(choice.taps, rows))
    return task.log_losses(task.probabilities(logits, found.temperature), inputs.store.targets()[rows])


def _named(choice: HeadChoice) -> str:
    return "+".join(choice.taps)
