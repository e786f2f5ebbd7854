"""Training keeps a second head, fitted under BatchNorm statistics of the training images' own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from graft.core.errors import ModelError
from graft.data.dataset import ImageDataset
from graft.models.batch_norm import estimate_norms
from graft.models.bundle import ModelBundle
from graft.models.classifier import Classifier
from graft.models.fit_renormed_head import with_renormed_head
from graft.models.renormed_head import FOLDER, HEAD_FILE
from graft.models.two_views import with_norms
from tests.support.shifted import adaptable
from tests.support.tiny import small_dataset
from tests.support.unsealed import unsealed


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ImageDataset:
    return small_dataset(tmp_path_factory.mktemp("data") / "dataset")


@pytest.fixture(scope="module")
def bundle(dataset: ImageDataset) -> ModelBundle:
    return adaptable(dataset)


def _seen(bundle: ModelBundle, dataset: ImageDataset, split: str) -> torch.Tensor:
    """Features of a split under statistics of its own."""
    rows, transform = dataset.indices(split), bundle.transform
    x = transform.normalise(torch.stack([transform.pixels(dataset.image(int(row))) for row in rows]))
    norms = estimate_norms(bundle.backbone, [x])
    with torch.inference_mode():
        return Classifier(with_norms(bundle.backbone, norms), bundle.classifier.head).eval().features(x)


def test_it_answers_for_images_under_their_own_statistics(bundle: ModelBundle, dataset: ImageDataset) -> None:
    kept = bundle.renormed
    assert kept is not None
    features = _seen(bundle, dataset, "test")
    truth = dataset.targets()[dataset.indices("test")]
    with torch.inference_mode():
        assert (kept.head(features).argmax(1).numpy() == truth).mean() > 0.95
    np.testing.assert_array_equal(kept.moments.counts, (20, 20, 20))
    learnt = _seen(bundle, dataset, "train").numpy()
    assert np.abs(kept.moments.mixed()[0] - learnt.mean(0)).max() < 0.2 * learnt.std()


def test_it_is_saved_with_the_model(bundle: ModelBundle, tmp_path: Path) -> None:
    bundle.save(tmp_path / "model")
    read = ModelBundle.load(tmp_path / "model").renormed
    assert read is not None
    assert bundle.renormed is not None
    for name, tensor in bundle.renormed.head.state_dict().items():
        assert torch.equal(read.head.state_dict()[name], tensor)
    np.testing.assert_array_equal(read.moments.means, bundle.renormed.moments.means)
    (unsealed(tmp_path / "model") / FOLDER / HEAD_FILE).write_bytes(b"cut")
    with pytest.raises(ModelError, match=r"renormed.head\.safetensors"):
        ModelBundle.load(tmp_path / "model")


def test_models_that_cannot_use_it_are_returned_as_they_are(bundle: ModelBundle, dataset: ImageDataset) -> None:
    plain = replace(bundle, renormed=None)
    unknown = replace(plain, moments=None)
    assert with_renormed_head(unknown, dataset) is unknown
    again = with_renormed_head(plain, dataset).renormed
    assert again is not None
    assert bundle.renormed is not None
    assert torch.equal(again.head.state_dict()["linear.weight"], bundle.renormed.head.state_dict()["linear.weight"])


def test_few_images_of_a_class_are_too_few(
    bundle: ModelBundle, dataset: ImageDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = replace(bundle, renormed=None)
    monkeypatch.setattr("graft.models.fit_renormed_head.FEWEST", 21)  # there are 20
    assert with_renormed_head(plain, dataset) is plain
