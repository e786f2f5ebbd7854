"""Two views: the mean of two classifiers that share their weights, the same after loading and in every export."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from graft.backbones.backbone import build_backbone
from graft.core.errors import ModelError
from graft.models.bundle import ModelBundle
from graft.models.bundle_spec import Adaptation, BundleSpec
from graft.models.classifier import Classifier, Head, HeadSpec
from graft.models.classifier_files import SECOND_NORMS_FILE
from graft.models.export import check_parity, export_program, pixel_network
from graft.models.two_views import TwoViews, has_batch_norm, norms_of, with_norms
from tests.support.unsealed import unsealed

ADAPTATION = Adaptation(
    source="models:/graft/3",
    domain="night",
    images=60,
    method="both",
    shift=(0.9, 0.8, 1.0),
    shares_before=(0.5, 0.5),
    shares=(0.4, 0.6),
    agreement_before=0.5,
    agreement=0.8,
    guards=(),
    kept=True,
    why="adapted",
)


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    torch.manual_seed(0)
    whole = build_backbone("mobilenet_v3_small", "none", image_size=32)
    backbone = whole.truncated("features.4")
    other = with_norms(backbone, {name: value + 0.3 for name, value in norms_of(backbone).items()})
    heads = [Head(HeadSpec(taps=("features.4",), features=backbone.spec.widths[-1]), 2) for _ in range(2)]
    classifier = TwoViews(Classifier(backbone, heads[0]), Classifier(other, heads[1])).eval()
    spec = BundleSpec(
        labels=("ant", "bee"),
        backbone=backbone.spec,
        source_groups=whole.spec.groups,
        head=heads[0].spec,
        dataset_digest="d" * 64,
        l2=0.01,
        adaptation=ADAPTATION,
    )
    return ModelBundle(spec, classifier)


def _images(count: int) -> list[bytes]:
    contents = []
    for seed in range(count):
        file = io.BytesIO()
        Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(file, "PNG")
        contents.append(file.getvalue())
    return contents


def test_the_answer_is_the_mean_of_both(bundle: ModelBundle) -> None:
    classifier = bundle.classifier
    assert isinstance(classifier, TwoViews)
    x = torch.randn(5, 3, 32, 32)
    one = Classifier(classifier.backbone, classifier.head.first).eval()
    other = Classifier(classifier.second_backbone, classifier.head.second).eval()
    with torch.no_grad():
        expected = (one(x).softmax(1) + other(x).softmax(1)) / 2
        assert not torch.allclose(one(x).softmax(1), other(x).softmax(1), atol=1e-3)
        torch.testing.assert_close(classifier(x).exp(), expected)
        torch.testing.assert_close(classifier(x).softmax(1), expected)


def test_weights_are_shared_and_statistics_are_not(bundle: ModelBundle) -> None:
    classifier = bundle.classifier
    assert isinstance(classifier, TwoViews)
    for one, other in zip(classifier.backbone.parameters(), classifier.second_backbone.parameters(), strict=True):
        assert one is other
    first, second = norms_of(classifier.backbone), norms_of(classifier.second_backbone)
    assert any(not torch.equal(first[name], second[name]) for name in first)
    assert has_batch_norm(classifier.backbone)
    assert not has_batch_norm(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.LayerNorm(4)))
    with pytest.raises(ValueError, match="do not belong to this backbone"):
        with_norms(classifier.backbone, dict(list(first.items())[:-1]))


def test_round_trip(bundle: ModelBundle, tmp_path: Path) -> None:
    bundle.save(tmp_path / "model")
    loaded = ModelBundle.load(tmp_path / "model")
    assert loaded.spec == bundle.spec
    images = _images(20)
    np.testing.assert_allclose(loaded.logits(images), bundle.logits(images), atol=1e-5)
    logits, features = loaded.logits_and_features(images)
    assert features.shape == (20, 2 * bundle.spec.head.features)
    table = loaded.predict(images)
    assert table["label"].tolist() == [loaded.spec.labels[row.argmax()] for row in logits]
    (unsealed(tmp_path / "model") / SECOND_NORMS_FILE).unlink()
    with pytest.raises(ModelError, match=r"second_norms\.safetensors: not readable"):
        ModelBundle.load(tmp_path / "model")


def test_it_is_exported_as_it_is(bundle: ModelBundle, tmp_path: Path) -> None:
    network = pixel_network(bundle.classifier)
    export_program(network, tmp_path / "program.pt2")
    program = torch.export.load(tmp_path / "program.pt2").module()
    assert check_parity(network, program, network.transform.shape, "torch.export") < 1e-4
    # normalisation and folding included
    pixels = torch.stack([bundle.transform.pixels(image) for image in _images(3)])
    with torch.inference_mode():
        expected = bundle.classifier(bundle.transform.normalise(pixels))
        torch.testing.assert_close(network(pixels)[0], expected, atol=1e-3, rtol=1e-3)


def test_a_view_of_an_activation_is_refused(bundle: ModelBundle) -> None:
    with pytest.raises(ValueError, match="start from the image"):
        bundle.classifier.from_boundary(torch.zeros(1, 16, 8, 8), after="features.1")


def test_bundles_without_adaptation_have_one_view(bundle: ModelBundle) -> None:
    plain = dataclasses.replace(bundle, spec=bundle.spec.model_copy(update={"adaptation": None}))
    assert not plain.spec.two_views
    single = ADAPTATION.model_copy(update={"method": "standardise"})
    assert not bundle.spec.model_copy(update={"adaptation": single}).two_views
