"""When to abstain, for a model that was refit: its thresholds rest on what it had not seen."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from graft.data.dataset import ImageDataset
from graft.models.bundle import ModelBundle
from graft.models.fit_abstention import with_abstention
from graft.stats.conformal import fit_quantile
from tests.support.tiny import bundle_of, small_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ImageDataset:
    return small_dataset(tmp_path_factory.mktemp("tiny") / "dataset", val=8)


@pytest.fixture(scope="module")
def unseen(dataset: ImageDataset) -> ModelBundle:
    return bundle_of(dataset, shuffled=0.3)


def changed(bundle: ModelBundle) -> ModelBundle:
    """The same model with other weights, as after a refit."""
    classifier = copy.deepcopy(bundle.classifier)
    with torch.no_grad():
        for parameter in classifier.backbone.parameters():
            parameter.mul_(1.05)
    return replace(bundle, classifier=classifier)


def test_both_thresholds_of_a_refit_model_are_those_of_the_model_before(
    dataset: ImageDataset, unseen: ModelBundle
) -> None:
    before = with_abstention(unseen, dataset).abstention
    refit = changed(unseen)
    found = with_abstention(refit, dataset, unseen).abstention
    own = with_abstention(refit, dataset).abstention
    assert before
    assert found
    assert own
    assert (found.quantile, found.detector.threshold) == (before.quantile, before.detector.threshold)
    assert found.detector.threshold != own.detector.threshold
    np.testing.assert_array_equal(found.detector.means, own.detector.means)


def test_the_quantile_rests_on_logits_that_nothing_was_chosen_on(dataset: ImageDataset, unseen: ModelBundle) -> None:
    targets = dataset.targets()[dataset.labelled("val")]
    logits = np.random.default_rng(0).normal(0, 1, (len(targets), 3)).astype(np.float32)
    found = with_abstention(unseen, dataset, val_logits=logits).abstention
    assert found
    assert found.quantile == fit_quantile(unseen.probabilities(logits), targets)
