"""The metrics against scikit-learn, on random problems with ties, absent classes and resampled counts."""

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.stats import metrics

SETTINGS = settings(max_examples=25, deadline=None)


@st.composite
def problems(draw: st.DrawFn, fewest: int = 2):
    """Targets, probabilities (coarse, so that scores tie) and a resample's counts."""
    number = draw(st.integers(fewest, 6))
    size = draw(st.integers(number * 2, 60))
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    targets = generator.integers(0, number, size)
    targets[:number] = np.arange(number)
    raw = np.round(generator.random((size, number)) * draw(st.sampled_from([2, 5, 1000]))) + 0.1
    counts = generator.integers(0, 4, size)
    counts[:number] = 1
    return targets, raw / raw.sum(axis=1, keepdims=True), counts.astype(float)


def expected(name: str, targets: np.ndarray, probabilities: np.ndarray, counts: np.ndarray) -> float:
    number = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    labels = list(range(number))
    one_hot = np.eye(number)[targets]
    binary = number == 2
    match name:
        case "accuracy":
            return reference.accuracy_score(targets, predicted, sample_weight=counts)
        case "balanced_accuracy":
            return reference.balanced_accuracy_score(targets, predicted, sample_weight=counts)
        case "macro_f1":
            return reference.f1_score(targets, predicted, average="macro", sample_weight=counts, zero_division=0)
        case "auroc":
            if binary:
                return reference.roc_auc_score(targets, probabilities[:, 1], sample_weight=counts)
            each = [reference.roc_auc_score(one_hot[:, c], probabilities[:, c], sample_weight=counts) for c in labels]
            return float(np.mean(each))
        case "average_precision":
            if binary:
                return reference.average_precision_score(targets, probabilities[:, 1], sample_weight=counts)
            return reference.average_precision_score(one_hot, probabilities, average="macro", sample_weight=counts)
        case "log_loss":
            return reference.log_loss(targets, probabilities, labels=labels, sample_weight=counts)
        case "brier":
            return reference.brier_score_loss(
                targets, probabilities[:, 1] if binary else probabilities, labels=labels, sample_weight=counts
            )
    raise AssertionError(name)


@pytest.mark.parametrize("name", [name for name in metrics.METRICS if name != "ece"])
@SETTINGS
@given(problem=problems())
def test_metric_equals_scikit_learn_with_and_without_counts(name: str, problem) -> None:
    targets, probabilities, counts = problem
    metric = metrics.METRICS[name]
    assert metric(targets, probabilities, None)[0] == pytest.approx(
        expected(name, targets, probabilities, np.ones(len(targets))), abs=1e-9
    )
    assert metric(targets, probabilities, counts[None])[0] == pytest.approx(
        expected(name, targets, probabilities, counts), abs=1e-9
    )


@SETTINGS
@given(problem=problems())
def test_counting_an_image_twice_is_having_it_twice(problem) -> None:
    targets, probabilities, counts = problem
    repeated = np.repeat(np.arange(len(targets)), counts.astype(int))
    for name, metric in metrics.METRICS.items():
        if name == "ece":
            continue  # its bins hold equally many of the images given, however often each counts
        counted = metric(targets, probabilities, counts[None])[0]
        assert counted == pytest.approx(metric(targets[repeated], probabilities[repeated], None)[0], abs=1e-9), name


@SETTINGS
@given(problem=problems())
def test_confusion_and_per_class_equal_scikit_learn(problem) -> None:
    targets, probabilities, counts = problem
    labels = list(range(probabilities.shape[1]))
    predicted = metrics.predictions(probabilities)
    matrix = reference.confusion_matrix(targets, predicted, labels=labels, sample_weight=counts)
    np.testing.assert_allclose(metrics.confusion(targets, probabilities, counts[None])[0], matrix)
    found = metrics.per_class(targets, probabilities)
    precision, recall, f1, support = reference.precision_recall_fscore_support(
        targets, predicted, labels=labels, zero_division=np.nan
    )
    np.testing.assert_array_equal(found.support, support)
    np.testing.assert_allclose(found.precision, precision)
    np.testing.assert_allclose(found.recall, recall)
    np.testing.assert_allclose(np.nan_to_num(found.f1), np.nan_to_num(f1))


@SETTINGS
@given(problem=problems(3), k=st.integers(1, 3))
def test_top_k_counts_the_right_class_among_the_k_best(problem, k: int) -> None:
    targets, _, _ = problem
    distinct = np.random.default_rng(k).permuted(np.tile(np.arange(6.0), (len(targets), 1)), axis=1)
    hit = [target in np.argsort(-row)[:k] for target, row in zip(targets, distinct, strict=True)]
    assert metrics.top_k_accuracy(targets, distinct, k=k)[0] == pytest.approx(np.mean(hit))


def two_of(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.where(right, 0, 1), np.stack([confidence, 1 - confidence], axis=1)


def test_calibration_error_by_hand() -> None:
    # Two bins of ten: at 0.85 six are right, at 0.55 nine.
    confidence = np.repeat([0.85, 0.55], 10)
    right = np.concatenate([np.arange(10) < 6, np.arange(10) < 9])
    squared = [(0.85 - 0.6) ** 2 - 0.6 * 0.4 / 9, (0.55 - 0.9) ** 2 - 0.9 * 0.1 / 9]
    found = metrics.ece(*two_of(confidence, right))[0]
    assert found == pytest.approx(np.sqrt(np.mean(squared)))


@pytest.mark.parametrize("size", [60, 300, 3000])
def test_the_calibration_error_is_that_of_the_probabilities_whatever_the_size(size: int) -> None:
    generator, found = np.random.default_rng(0), {0.0: list[float](), 0.1: list[float]()}
    for _ in range(200):
        confidence = generator.uniform(0.6, 0.95, size)
        for off, errors in found.items():
            right = generator.random(size) < confidence - off
            errors.append(metrics.ece(*two_of(confidence, right))[0] ** 2)
    # The squares of an error are unbiased but for those below zero, which are cut off.
    assert np.sqrt(np.mean(found[0.1])) == pytest.approx(0.1, abs=0.03 if size == 60 else 0.008)
    assert np.sqrt(np.median(found[0.0])) < 0.05 if size == 60 else 0.01


def test_an_absent_class_is_left_out_of_macro_averages() -> None:
    targets = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.3, 0.6, 0.1], [0.5, 0.4, 0.1]])
    assert metrics.balanced_accuracy(targets, probabilities)[0] == pytest.approx(0.75)
    assert metrics.auroc(targets, probabilities)[0] == pytest.approx(1.0)
    assert np.isnan(metrics.per_class(targets, probabilities).recall[2])


def test_a_metric_without_the_images_it_needs_is_nan() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert np.isnan(metrics.auroc(np.array([0, 0]), probabilities)[0])
    assert np.isnan(metrics.average_precision(np.array([0, 0]), probabilities)[0])


@given(temperature=st.floats(0.05, 20))
def test_softmax_sums_to_one_and_keeps_the_order(temperature: float) -> None:
    logits = np.array([[1.0, 3.0, -2.0], [1e4, 0.0, -1e4]], dtype=np.float32)
    probabilities = metrics.softmax(logits, temperature)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), [1, 0])


@SETTINGS
@given(problem=problems())
def test_either_of_two_classes_can_be_the_positive_one(problem) -> None:
    targets, probabilities, counts = problem
    targets, probabilities = np.minimum(targets, 1), np.stack([probabilities[:, 0], 1 - probabilities[:, 0]], axis=1)
    found = metrics.metrics_for(2, positive=0)
    for name in ("auroc", "average_precision"):
        swapped = expected(name, 1 - targets, probabilities[:, ::-1], counts)
        assert found[name](targets, probabilities, counts[None])[0] == pytest.approx(swapped, abs=1e-9), name
    assert found["accuracy"] is metrics.metrics_for(2)["accuracy"]
    assert metrics.metrics_for(2)["average_precision"] == metrics.average_precision
