"""A bundle is a self-contained folder that predicts the same after loading."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from graft.backbones.backbone import build_backbone
from graft.backbones.pretrained_classifier import ZeroShot
from graft.core.errors import DataError, ModelError
from graft.heads.class_moments import ClassMoments
from graft.heads.linear_probe import Linear
from graft.models.bundle import ModelBundle
from graft.models.bundle_spec import BundleSpec
from graft.models.classifier import Classifier, Head, HeadSpec
from tests.support.unsealed import unsealed


@pytest.fixture(
    scope="module",
    params=[
        *((("features.12",), "linear"), (("features.4", "neck"), "linear")),
        *((("features.4", "neck"), "mlp"), (("features.12",), "cosine")),
    ],
    ids=["one tap", "two taps", "mlp", "cosine"],
)
def bundle(request: pytest.FixtureRequest) -> ModelBundle:
    taps, kind = request.param
    torch.manual_seed(0)
    whole = build_backbone("mobilenet_v3_small", "none", image_size=32)
    backbone = whole.truncated(taps[-1])
    width = sum(whole.spec.widths[whole.spec.index(tap)] for tap in taps)
    shape = HeadSpec(kind=kind, taps=taps, features=width, hidden=8 if kind == "mlp" else 0)
    classifier = Classifier(backbone, Head(shape, 3)).eval()
    spec = BundleSpec(
        labels=("ant", "bee", "<wasp>"),
        backbone=backbone.spec,
        source_groups=whole.spec.groups,
        head=classifier.head.spec,
        dataset_digest="d" * 64,
        l2=0.01,
        temperature=2.0,
    )
    return ModelBundle(spec, classifier)


def _jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG")
    return content.getvalue()


def test_round_trip(bundle: ModelBundle, tmp_path: Path) -> None:
    bundle.save(tmp_path / "model")
    loaded = ModelBundle.load(tmp_path / "model")
    assert loaded.spec == bundle.spec
    images = [_jpeg(seed) for seed in range(20)]
    np.testing.assert_array_equal(loaded.logits(images), bundle.logits(images))
    assert sorted(file.name for file in (tmp_path / "model").iterdir()) == [
        "SHA256SUMS",
        "backbone.safetensors",
        "bundle.json",
        "head.safetensors",
    ]


def test_the_start_of_the_head_is_saved(bundle: ModelBundle, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    start = Linear.of_raw(generator.normal(0, 1, (3, 5)), generator.normal(0, 1, 3))
    facts = {
        "source_labels": {"ant": ("ant", "emmet")},
        "zero_shot": (ZeroShot(split="val", images=9, accuracy=0.5, low=0.2, high=0.8),),
        "started_from_source": True,
    }
    dataclasses.replace(bundle, spec=bundle.spec.model_copy(update=facts), start=start).save(tmp_path / "model")
    loaded = ModelBundle.load(tmp_path / "model")
    assert loaded.start is not None
    np.testing.assert_array_equal(loaded.start.weight, start.weight)
    np.testing.assert_array_equal(loaded.start.bias, start.bias)
    assert loaded.spec.model_dump() == {**bundle.spec.model_dump(), **loaded.spec.model_dump(include=set(facts))}
    assert {name: getattr(loaded.spec, name) for name in facts} == facts


def test_a_bundle_older_than_other_kinds_of_head_is_read(bundle: ModelBundle, tmp_path: Path) -> None:
    bundle.save(tmp_path / "model")
    file = unsealed(tmp_path / "model") / "bundle.json"
    spec = json.loads(file.read_text())
    if spec["head"]["kind"] != "mlp":
        del spec["head"]["hidden"]
    for name in ("heads", "source_labels", "zero_shot", "started_from_source"):
        del spec[name]
    file.write_text(json.dumps(spec))
    assert ModelBundle.load(tmp_path / "model").spec == bundle.spec


def test_predict_takes_paths_bytes_pictures_and_arrays(bundle: ModelBundle, tmp_path: Path) -> None:
    content = _jpeg(0)
    (tmp_path / "a.jpg").write_bytes(content)
    picture = Image.open(io.BytesIO(content))
    table = bundle.predict([tmp_path / "a.jpg", str(tmp_path / "a.jpg"), content, picture, np.asarray(picture)])
    assert list(table.columns[:3]) == ["path", "label", "confidence"]
    assert set(bundle.spec.labels) < set(table.columns[3:])
    probabilities = table[list(bundle.spec.labels)].to_numpy()
    np.testing.assert_allclose(probabilities.sum(1), 1.0)
    np.testing.assert_allclose(probabilities, probabilities[:1].repeat(5, 0), atol=0.02)
    expected = bundle.probabilities(bundle.logits([content]))
    np.testing.assert_allclose(probabilities[2:3], expected, atol=1e-6)
    assert bundle.predict([]).empty


@pytest.mark.parametrize("kind", ["see-through", "rotated", "16 bits"])
def test_an_opened_picture_is_seen_as_its_file(bundle: ModelBundle, kind: str) -> None:
    generator = np.random.default_rng(0)
    picture = Image.fromarray(generator.integers(0, 255, (40, 50, 3), dtype=np.uint8))
    exif = Image.Exif()
    if kind == "see-through":
        picture.putalpha(Image.fromarray(generator.integers(0, 255, (40, 50), dtype=np.uint8)))
    elif kind == "rotated":
        exif[0x0112] = 6
    else:
        picture = Image.fromarray(generator.integers(0, 65535, (40, 50)).astype(np.uint16))
    content = io.BytesIO()
    picture.save(content, "PNG", exif=exif)
    opened = bundle.predict([Image.open(io.BytesIO(content.getvalue()))])
    pd.testing.assert_frame_equal(opened, bundle.predict([content.getvalue()]), check_exact=True)


def test_the_temperature_divides_the_logits(bundle: ModelBundle) -> None:
    logits = np.array([[2.0, 0.0, 0.0]], np.float32)
    odds = np.exp(1.0)
    np.testing.assert_allclose(bundle.probabilities(logits)[0, 0], odds / (odds + 2))


def test_a_boundary_in_the_middle_gives_the_same_logits(bundle: ModelBundle) -> None:
    classifier = bundle.classifier
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        below = [
            tap
            for name, tap in zip(classifier.backbone.spec.groups, classifier.backbone.taps(x), strict=True)
            if name in classifier.head.spec.taps and classifier.backbone.spec.index(name) <= 6
        ]
        activation = classifier.backbone.prefix(x, "features.6")
        again = classifier.from_boundary(activation, "features.6", below)
        torch.testing.assert_close(again, classifier(x), rtol=0, atol=0)


def test_clear_errors(bundle: ModelBundle, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model here \(bundle.json is missing\)"):
        ModelBundle.load(tmp_path)
    bundle.save(tmp_path / "model")
    unsealed(tmp_path / "model")
    spec = json.loads((tmp_path / "model" / "bundle.json").read_text())
    (tmp_path / "model" / "bundle.json").write_text(json.dumps({**spec, "version": 99}))
    with pytest.raises(ModelError, match=r"model of format 99, expected 2; run train_head or fine_tune again"):
        ModelBundle.load(tmp_path / "model")
    (tmp_path / "model" / "bundle.json").write_text(json.dumps({**spec, "l2": "much"}))
    with pytest.raises(ModelError, match=r"bundle.json: l2: .* valid number.*; run train_head or fine_tune again"):
        ModelBundle.load(tmp_path / "model")
    (tmp_path / "model" / "bundle.json").write_text(json.dumps({**spec, "labels": ["a", "b"]}))
    with pytest.raises(ModelError, match=r"labels a, b are not those of the task"):
        ModelBundle.load(tmp_path / "model")
    with pytest.raises(DataError, match=r"image 1: "):
        bundle.predict([_jpeg(0), b"not an image"], errors="raise")
    with pytest.raises(DataError, match=r"missing.jpg: "):
        bundle.predict(tmp_path / "missing.jpg")


def test_the_moments_of_the_features_are_saved(bundle: ModelBundle, tmp_path: Path) -> None:
    width = bundle.spec.head.features
    features = np.random.default_rng(0).normal(0, 1, (30, width)).astype(np.float32)
    made = ClassMoments.of(features, np.arange(30) % 3, 3)
    dataclasses.replace(bundle, moments=made).save(tmp_path / "model")
    read = ModelBundle.load(tmp_path / "model").moments
    assert read is not None
    np.testing.assert_array_equal(read.squares, made.squares)
    ClassMoments.empty(3, width + 1).save(unsealed(tmp_path / "model"))
    with pytest.raises(ModelError, match=r"moments\.safetensors: of .*train again"):
        ModelBundle.load(tmp_path / "model")
