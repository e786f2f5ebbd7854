"""A model that mistakes another camera's pictures is adapted to them; one that need not be is left alone."""

import copy
import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from graft.adapt.adaptation import AdaptationResult, adapt
from graft.adapt.label_check import LabelledCheck
from graft.adapt.target_images import TargetImages
from graft.core.errors import DataError, ModelError, ParamsError
from graft.data.safe_paths import read_bytes
from graft.models.bundle import ModelBundle
from graft.models.classifier import Classifier, Head, HeadSpec
from graft.models.two_views import TwoViews
from graft.params.adapt import AdaptParams
from tests.support.shifted import write_target
from tests.support.tiny import CLASSES

Target = tuple[TargetImages, dict[str, str]]


def _adapt(bundle: ModelBundle, images: TargetImages, **params: object) -> AdaptationResult:
    return adapt(bundle, images, AdaptParams.model_validate(params), "models:/birds/3", "night")


def _truth(images: TargetImages, labels: dict[str, str]) -> np.ndarray:
    return np.array([CLASSES.index(labels[file]) for file in images.files])


def _contents(images: TargetImages) -> list[bytes]:
    return [read_bytes(images.folder / file) for file in images.files]


@pytest.mark.parametrize("method", ["both", "standardise", "batchnorm"])
def test_another_camera_is_learnt_without_a_label(bundle: ModelBundle, target: Target, method: str) -> None:
    images, labels = target
    truth = _truth(images, labels)
    found = _adapt(bundle, images, method=method)
    assert found.record.kept
    assert (found.before.argmax(1) == truth).mean() < 0.5
    assert found.after is not None
    assert (found.after.argmax(1) == truth).mean() > 0.95
    # the model says the same itself, and about pictures that it was not adapted to
    adapted = found.bundle
    assert isinstance(adapted.classifier, TwoViews) == (method == "both")
    served = adapted.probabilities(adapted.logits(_contents(images)))
    np.testing.assert_allclose(served, found.after, atol=1e-3)
    assert adapted.spec.adaptation == found.record
    assert adapted.abstention is None
    assert adapted.moments is None


@pytest.mark.parametrize("method", ["coral", "label_propagation"])
def test_other_methods_serve_what_they_answer(bundle: ModelBundle, target: Target, method: str) -> None:
    images, labels = target
    found = _adapt(bundle, images, method=method, agreement_gain=-1.0, class_gap=1.0)
    assert found.record.kept
    assert found.record.method == method
    assert found.after is not None
    truth = _truth(images, labels)
    assert (found.after.argmax(1) == truth).mean() > (found.before.argmax(1) == truth).mean()
    served = found.bundle.probabilities(found.bundle.logits(_contents(images)))
    np.testing.assert_allclose(served, found.after, atol=1e-3)


def test_half_of_the_pictures_serves_the_other_half(bundle: ModelBundle, target: Target) -> None:
    images, labels = target
    half = np.arange(len(images)) % 4 != 0
    adapted = _adapt(bundle, images.kept(half)).bundle
    rest = images.kept(~half)
    assert (adapted.logits(_contents(rest)).argmax(1) == _truth(rest, labels)).mean() > 0.9


def test_the_same_camera_is_left_alone_before_anything_is_tried(bundle: ModelBundle, tmp_path: Path) -> None:
    labels = write_target(tmp_path / "day", shifted=False)
    found = _adapt(bundle, TargetImages.of(tmp_path / "day", sorted(labels)))
    assert not found.record.kept
    assert found.bundle is bundle
    assert found.after is None
    assert found.record.why.startswith("These images look like the training images: AUROC")
    assert [guard.name for guard in found.record.guards] == ["images", "shift"]


def test_one_class_alone_is_left_alone(bundle: ModelBundle, target: Target) -> None:
    images, labels = target
    ants = images.kept(np.array([labels[file] != "cat" for file in images.files]))
    found = _adapt(bundle, ants, min_images=20, class_gap=0.1)
    assert not found.record.kept
    assert found.record.why.startswith("The classes seem to differ in frequency")
    assert found.bundle is bundle


def _check(images: TargetImages, labels: dict[str, str], folder: Path, *, wrong: bool = False) -> LabelledCheck:
    with (folder / "check.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label"])
        for number, name in enumerate(images.files):
            rows.writerow([name, CLASSES[number % len(CLASSES)] if wrong else labels[name]])
    return LabelledCheck.read(folder / "check.csv", images.folder, CLASSES)


def test_labelled_images_decide_and_change_no_weight(bundle: ModelBundle, target: Target, tmp_path: Path) -> None:
    images, labels = target
    held = np.arange(len(images)) % 4 == 0
    rest, params = images.kept(~held), AdaptParams()
    found = adapt(bundle, rest, params, "m", "night", _check(images.kept(held), labels, tmp_path))
    assert found.record.kept
    assert found.record.guards[-1].name == "check"
    assert found.checked is not None
    assert found.checked.after.mean() > found.checked.before.mean()
    assert found.checked.difference.low > 0
    # fitted anew on the labelled images
    assert found.bundle.abstention is not None
    assert {"set", "abstain", "ood"} <= set(found.bundle.predict(_contents(rest)[:3]).columns)
    shuffled = adapt(bundle, rest, params, "m", "night", _check(images.kept(held), labels, tmp_path, wrong=True))
    plain = adapt(bundle, rest, params, "m", "night")
    for other in (shuffled, plain):
        assert other.after is not None
        np.testing.assert_array_equal(other.after, found.after)
    assert not shuffled.record.kept
    weights, without = found.bundle.classifier.state_dict(), plain.bundle.classifier.state_dict()
    assert all(torch.equal(weights[name], without[name]) for name in weights)


def test_folders_and_names_that_tell_the_label_change_no_weight(
    bundle: ModelBundle, target: Target, tmp_path: Path
) -> None:
    """Class folders that are right, permuted or gone give the same adapted model, bit by bit."""
    images, labels = target
    weights = []
    for way in ("true", "permuted", "removed"):
        files = []
        for number, (file, identity) in enumerate(zip(images.files, images.ids, strict=True)):
            label = {"true": labels[file], "permuted": CLASSES[number % 3], "removed": ""}[way]
            name = f"{identity[8:16]}.png" if way == "removed" else file
            (tmp_path / way / label).mkdir(parents=True, exist_ok=True)
            (tmp_path / way / label / name).write_bytes(read_bytes(images.folder / file))
            files.append(f"{label}/{name}" if label else name)
        found = _adapt(bundle, TargetImages.of(tmp_path / way, sorted(files)))
        assert found.record.kept
        weights.append(found.bundle.classifier.state_dict())
    for other in weights[1:]:
        assert all(torch.equal(weights[0][name], other[name]) for name in weights[0])


def test_the_second_view_starts_from_the_head_that_training_kept_for_it(bundle: ModelBundle, target: Target) -> None:
    """It has seen features under re-estimated statistics, and of the training images alone."""
    images, labels = target
    assert bundle.renormed is not None
    np.testing.assert_array_equal(bundle.renormed.moments.counts, (20, 20, 20))
    other = _adapt(replace(bundle, renormed=None), images)
    found = _adapt(bundle, images)
    assert found.after is not None
    assert other.after is not None
    assert not np.array_equal(found.after, other.after)
    assert (found.after.argmax(1) == _truth(images, labels)).mean() > 0.95


def test_bad_input_is_one_clear_line(bundle: ModelBundle, target: Target) -> None:
    images, _ = target
    with pytest.raises(DataError, match=r"72 images, fewer than adapt\.min_images=100"):
        _adapt(bundle, images, min_images=100)
    with pytest.raises(ModelError, match="kept no class moments; train it again"):
        _adapt(replace(bundle, moments=None), images)
    with pytest.raises(ModelError, match="kept no sample of features; train it again"):
        _adapt(replace(bundle, sample=None), images)
    adapted = _adapt(bundle, images).bundle
    with pytest.raises(ModelError, match=r"already adapted to 'night'; start from models:/birds/3"):
        _adapt(adapted, images)
    shape = HeadSpec(kind="cosine", taps=bundle.spec.head.taps, features=bundle.spec.head.features)
    cosine = replace(bundle, classifier=Classifier(bundle.backbone, Head(shape, 3)).eval())
    with pytest.raises(ModelError, match="cannot be refitted"):
        _adapt(cosine, images)
    grey = bundle.transform.model_copy(update={"channels": 5, "mean": (0.5,) * 5, "std": (0.5,) * 5})
    backbone = bundle.spec.backbone.model_copy(update={"transform": grey})
    other = replace(bundle, spec=bundle.spec.model_copy(update={"backbone": backbone}))
    with pytest.raises(DataError, match=r"none of 72 image files can be read; .*channels"):
        _adapt(other, images)


def test_without_batch_norm_there_is_one_view(bundle: ModelBundle, target: Target) -> None:
    images, labels = target

    def without(module: torch.nn.Module) -> None:
        for name, child in module.named_children():
            if isinstance(child, torch.nn.BatchNorm2d):
                scale = (child.running_var + child.eps).rsqrt() * child.weight.detach()
                fixed = torch.nn.Conv2d(len(scale), len(scale), 1, groups=len(scale))
                fixed.weight.data = scale.view(-1, 1, 1, 1)
                fixed.bias.data = child.bias.detach() - child.running_mean * scale
                setattr(module, name, fixed)
            else:
                without(child)

    backbone = copy.deepcopy(bundle.backbone)
    without(backbone)
    plain = replace(bundle, classifier=Classifier(backbone, bundle.classifier.head).eval())
    found = _adapt(plain, images)
    assert found.record.method == "standardise"
    assert found.record.kept, found.record.why
    assert found.after is not None
    assert (found.after.argmax(1) == _truth(images, labels)).mean() > 0.95
    for method in ("both", "batchnorm"):
        with pytest.raises(ParamsError, match=r"has no BatchNorm; adapt\.method=standardise needs none"):
            _adapt(plain, images, method=method)
