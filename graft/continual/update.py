"""One update: new images join the memory, and the head that follows is examined on everything learnt so far.

All but the features is a function of the memory and the exam: temperature, prediction sets and the out-of-distribution
detector are fitted anew from them. So five updates in five processes give the model that one would.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from graft.backbones.feature_store import FeatureStore
from graft.continual.closed_form import ClosedForm
from graft.continual.exam import UNASKED, Exam
from graft.continual.head_choice import ChosenHead, choose_closed_form
from graft.continual.memory import Memory
from graft.continual.new_classes import new_classes
from graft.continual.refits import choose_joint, train_further
from graft.continual.state import ContinualState, LabelledFeatures, right_answers
from graft.core.errors import DataError, ModelError
from graft.heads.class_moments import ClassMoments
from graft.heads.linear_probe import Linear
from graft.models.bundle import ModelBundle
from graft.models.classifier import Classifier, Head
from graft.params.update_model import UpdateModelParams
from graft.stats.abstention import Abstention, calibrate_abstention
from graft.stats.ood import fit_ood
from graft.tasks.task import Bools, Task

LEAST = 2
"""Images that a new class needs."""


@dataclass(frozen=True)
class Update:
    """A model after an update, and what it did to everything learnt before."""

    bundle: ModelBundle
    state: ContinualState
    exam: Exam
    """With the answers of this model; like the state's, unless that keeps none."""
    before: Bools
    """Which images of the exam (m,) the model before was right about."""
    chosen: ChosenHead
    new_classes: tuple[str, ...]
    known_before: int
    """Images that had been learnt before, byte for byte, and were not learnt twice."""

    @property
    def after(self) -> Bools:
        """Which test images of the exam the model is right about, (m,); validation images count as wrong."""
        return np.asarray(self.exam.answers[-1] == 1, dtype=np.bool_)


def update_model(
    bundle: ModelBundle,
    state: ContinualState,
    data: LabelledFeatures,
    digest: str,
    params: UpdateModelParams,
    earlier: Sequence[FeatureStore] = (),
) -> Update:
    """Add images to a model.

    Args:
        bundle: the model.
        state: what it keeps of its past.
        data: what its head reads of the new images.
        digest: of their dataset.
        params: of the update.
        earlier: features of all images that the model has learnt, for `joint`.

    Raises:
        ModelError: if the memory is of other features.
        DataError: if no image is new, a new class is not wanted or has fewer than two images, or earlier features are
            missing.
    """
    check_model(bundle, state)
    known = state.memory.knows(data.ids.tolist())
    if state.exam is not None:
        known |= state.exam.knows(data.ids.tolist())
    fresh = data.part(~known)
    if not len(fresh):
        raise DataError(f"all {len(data):,} images were learnt before: there is nothing to learn")
    new = new_classes(bundle.spec.labels, fresh.names.tolist(), params.new_classes)
    _check_sizes(fresh, new)
    memory = state.memory
    if (~fresh.test).any():
        memory = memory.merged(fresh.memory(memory.fingerprint, memory.taps))
    steps = len(state.history.experiences)
    exam = (state.exam or blank_exam(state, steps)).extended(fresh.exam())
    before = right_answers(bundle, exam)
    exam = exam.asked_before(before)
    task = bundle.task.model_copy(update={"labels": memory.statistics.labels})
    chosen = _choose(bundle, memory, exam, fresh, task, params, earlier)
    after = replace(with_head(bundle, chosen, exam, task, digest), moments=_moments(memory, bundle, fresh, task))
    exam = exam.examined(right_answers(after, exam))
    name = f"update {steps}" if params.name == "auto" else params.name
    history = state.history.with_next(fresh.experience(name, digest, chosen.method, int(known.sum())))
    kept = None if state.exam is None else exam
    return Update(after, ContinualState(memory, kept, history), exam, before, chosen, new, int(known.sum()))


def check_model(bundle: ModelBundle, state: ContinualState) -> None:
    """Raise an error unless the memory is of the features that the model's head reads.

    Raises:
        ModelError: if it is of another backbone or of other groups.
    """
    state.memory.check_features(bundle.backbone.fingerprint(), bundle.spec.head.taps)


def blank_exam(state: ContinualState, steps: int) -> Exam:
    """Return the exam of a model that keeps none: `steps` experiences without images."""
    return replace(Exam.empty(state.memory.statistics.width), answers=np.full((steps, 0), UNASKED, np.uint8))


def with_head(bundle: ModelBundle, chosen: ChosenHead, exam: Exam, task: Task, digest: str) -> ModelBundle:
    """Return the model with another head, and everything that depends on it fitted anew.

    Args:
        bundle: the model before.
        chosen: its new head.
        exam: held-out images of everything learnt.
        task: what the new head answers.
        digest: of the dataset that was learnt last.
    """
    head = Head.of(chosen.head, bundle.spec.head.taps)
    spec = bundle.spec.model_copy(
        update={
            "labels": task.labels,
            "task": task,
            "head": head.spec,
            "dataset_digest": digest,
            "l2": chosen.penalty,
            "weighted": False,
            "prior_share": 0.0,
            "reuse_reason": f"updated by {chosen.method}; {chosen.reason}",
            "heads": (),
            "source_labels": {},
            "zero_shot": (),
            "started_from_source": False,
            "temperature": chosen.temperature,
            "refit": True,
        }
    )
    classifier = Classifier(bundle.backbone, head).eval()
    return ModelBundle(spec, classifier, _abstention(chosen, exam, task), sample=bundle.sample)


def _moments(memory: Memory, bundle: ModelBundle, fresh: LabelledFeatures, task: Task) -> ClassMoments | None:
    """Return the class moments of the model before, with those of the new images; None if it has none."""
    if bundle.moments is None:
        return None
    known, labels = ClassMoments.empty(task.outputs, memory.statistics.width), np.array(task.labels, dtype=str)
    rows = np.searchsorted(labels, np.array(bundle.spec.labels, dtype=str))
    for name in ("counts", "means", "squares"):
        getattr(known, name)[rows] = getattr(bundle.moments, name)
    learnt = fresh.part(~fresh.test)
    targets = np.searchsorted(labels, learnt.names).astype(np.int64)
    return known.merged(ClassMoments.of(learnt.features, targets, task.outputs)) if len(learnt) else known


def _abstention(chosen: ChosenHead, exam: Exam, task: Task) -> Abstention | None:
    """Fit when to abstain to the exam: the detector to test images, both thresholds to validation images."""
    tests, validation = exam.tests, exam.validation.part(chosen.judged)
    labels = np.array(task.labels, dtype=str)
    if not len(validation) or set(tests.names) != set(task.labels):
        return None  # a detector would take the images of a class without any for foreign ones
    detector = fit_ood(tests.features, np.searchsorted(labels, tests.names).astype(np.int64), len(labels))
    return calibrate_abstention(
        detector,
        detector.distances(validation.features),
        task.probabilities(chosen.logits, chosen.temperature),
        np.searchsorted(labels, validation.names).astype(np.int64),
    )


def _choose(
    bundle: ModelBundle,
    memory: Memory,
    exam: Exam,
    fresh: LabelledFeatures,
    task: Task,
    params: UpdateModelParams,
    earlier: Sequence[FeatureStore],
) -> ChosenHead:
    widths = widths_of(bundle)
    method, validation = params.method, exam.validation
    if method == "joint" or (method == "auto" and earlier):
        return choose_joint(_joined(bundle, memory, fresh, earlier), validation, task, widths)
    if method in ("naive", "replay"):
        newest = exam.experience[~exam.test] == exam.experiences
        replayed = validation.part(~newest) if method == "replay" else None
        start = _linear(bundle, task)
        found = train_further(start, fresh, replayed, validation.part(newest), task, params.seed)
        return replace(found, judged=newest)
    methods: tuple[ClosedForm, ...] = ("lda", "ridge") if method == "auto" else (method,)  # type: ignore[assignment]
    penalty = None if params.penalty == "auto" else params.penalty
    return choose_closed_form(memory.statistics, validation, task, methods, penalty, widths)


def widths_of(bundle: ModelBundle) -> tuple[int, ...]:
    """Return the number of features of each group that the head reads."""
    spec = bundle.spec
    return tuple(spec.backbone.widths[spec.backbone.index(tap)] for tap in spec.head.taps)


def _joined(
    bundle: ModelBundle, memory: Memory, fresh: LabelledFeatures, earlier: Sequence[FeatureStore]
) -> LabelledFeatures:
    """Return the new images and all learnt ones from their stored features.

    Raises:
        DataError: if the stores lack an image.
        ModelError: if they are of another backbone.
    """
    from graft.backbones.backbone import load_backbone

    parts = [fresh.part(~fresh.test)]
    for store in earlier:
        if bundle.spec.backbone.depth not in store.taps:
            raise ModelError(
                f"{store.path}: no group {bundle.spec.backbone.depth!r}; these features are not the model's"
            )
        backbone = load_backbone(store.backbone_folder).truncated(bundle.spec.backbone.depth)
        memory.check_features(backbone.fingerprint(), bundle.spec.head.taps)
        rows = np.sort(np.concatenate([store.labelled("train"), store.labelled("val")]))
        features = store.mapped(bundle.spec.head.taps, rows).read()
        parts.append(LabelledFeatures.of_table(features, store, rows))
    joined = LabelledFeatures.concatenated(parts)
    held = joined.part(memory.knows(joined.ids.tolist()))
    missing = memory.statistics.images - len(held)
    if missing:
        raise DataError(
            f"update_model.features: {missing:,} of the {memory.statistics.images:,} learnt images are not in these "
            "folders; name all of them, or use method=lda or ridge, which need none"
        )
    return held


def _linear(bundle: ModelBundle, task: Task) -> Linear:
    """Return the model's head as a linear one with a row for each of the task's labels; zeros where it has none."""
    head = bundle.classifier.head
    width = head.spec.features
    weight, bias = np.zeros((task.outputs, width)), np.zeros(task.outputs)
    if head.spec.kind != "linear":
        return Linear.of_raw(weight, bias)
    mean, scale = (tensor.double().numpy() for tensor in (head.mean, head.scale))
    state = {name: tensor.double().numpy() for name, tensor in head.linear.state_dict().items()}
    rows = [task.labels.index(label) for label in bundle.spec.labels]
    weight[rows] = state["weight"] / scale
    bias[rows] = state["bias"] - weight[rows] @ mean
    return Linear(weight, bias, mean=mean, scale=scale)


def _check_sizes(data: LabelledFeatures, new: Sequence[str]) -> None:
    learnt = data.names[~data.test]
    few = [name for name in new if (learnt == name).sum() < LEAST]
    if few:
        raise DataError(f"class {few[0]!r} has fewer than {LEAST} new images to learn from")
