"""From predictions to an evaluation, its verdict and its model card."""

import json
from pathlib import Path

import numpy as np
import pytest

from graft.evaluation.assessment import OtherModel, Sampling, SplitPredictions, assess, class_scores
from graft.evaluation.headline import verdict
from graft.evaluation.operating_point import evaluate_threshold
from graft.evaluation.schema import (
    AbstentionScore,
    Estimate,
    Evaluation,
    SliceScore,
    read_evaluation,
    write_evaluation,
)
from graft.params.register_model import RegisterModelParams
from graft.reports import evaluation_plots
from graft.reports.evaluation_page import Report, render
from graft.reports.model_card import Origin, markdown, model_card
from graft.serving.promotion_gate import rejection_reasons
from tests.support.tasks import of_classes, of_labels

CLASSES = ("ant", "bee", "cow")
SAMPLING = Sampling(bootstrap=100)


def answers(size: int, right: float, seed: int = 0, sure: float = 0.9) -> SplitPredictions:
    """Predictions of which about `right` are right, all with confidence `sure`."""
    generator = np.random.default_rng(seed)
    targets = np.arange(size) % 3
    hit = np.arange(size) < right * size
    named = np.where(generator.permutation(hit), targets, (targets + 1) % 3)
    model = np.full((size, 3), (1 - sure) / 2)
    model[np.arange(size), named] = sure
    return SplitPredictions(targets, model, np.roll(model, 0), np.arange(size))


def evaluated(predicted: SplitPredictions, classes: tuple[str, ...] = CLASSES) -> Evaluation:
    return assess(
        predicted, predicted, np.arange(30) % 3, task=of_labels(*classes), dataset_digest="ab" * 32, sampling=SAMPLING
    )


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    found = evaluated(answers(90, 0.9))
    write_evaluation(tmp_path, found)
    assert read_evaluation(tmp_path) == found
    plain = json.loads((tmp_path / "scores.json").read_text())
    assert set(plain["test"]["accuracy"]) == {"value", "low", "high"}
    assert set(plain["baseline"]) == {"majority"}
    assert set(plain["comparison"]) == {"head", "majority"}


def test_classes_are_listed_worst_first_and_the_untested_last() -> None:
    targets = np.array([0] * 10 + [1] * 10)
    model = np.eye(3)[np.array([0] * 6 + [1] * 4 + [1] * 10)] * 0.9 + 0.1 / 3
    found = evaluated(SplitPredictions(targets, model, model, np.arange(20)))
    assert [row.label for row in found.per_class] == ["ant", "bee", "cow"]
    assert found.per_class[0].recall.value == pytest.approx(0.6)
    assert found.per_class[2].recall.value is None
    assert [(pair.label, pair.predicted, pair.images, pair.of) for pair in found.most_confused] == [
        ("ant", "bee", 4, 10)
    ]
    assert any("No test image of “cow”" in remark.text for remark in verdict(found).remarks)


def test_the_majority_baseline_predicts_the_frequencies() -> None:
    found = of_classes(3).baseline(np.array([0, 0, 0, 1]), 2)
    np.testing.assert_allclose(found, [[0.75, 0.25, 0.0]] * 2)


def test_verdict_of_a_good_model() -> None:
    found = verdict(evaluated(answers(300, 0.92)))
    assert found.tone == "good"
    assert found.headline == "Right on 92.0 % of the images it had never seen"
    assert found.basis.startswith("276 of 300 test images; 95 % interval 88.")
    texts = [remark.text for remark in found.remarks]
    assert texts[0] == "Better than always predicting the most frequent class, which is right on 33.3 %."
    assert texts[1] == "Fine-tuning changed no answer of the head on frozen features."


def test_a_further_baseline_is_scored_compared_and_reported() -> None:
    good, worse = answers(300, 0.9), answers(300, 0.7, seed=1)

    def against(other: OtherModel) -> Evaluation:
        return assess(
            good,
            good,
            np.arange(30) % 3,
            task=of_labels(*CLASSES),
            dataset_digest="ab" * 32,
            sampling=SAMPLING,
            others={"random_init": other},
        )

    found = against(OtherModel(worse.model))
    assert found.baseline["random_init"]["accuracy"].value == pytest.approx(0.7)
    assert found.comparison["random_init"].outcome == "better"
    texts = [remark.text for remark in verdict(found).remarks]
    assert texts[1].startswith("Pretraining helps: the same backbone with random weights")
    assert texts[1].endswith("is right on 70.0 %.")
    texts = [remark.text for remark in verdict(against(OtherModel(good.model))).remarks]
    assert texts[1] == "The model gives the same answers as a head on the same backbone with random weights."
    close = against(OtherModel(answers(300, 0.89, seed=2).model))
    text = verdict(close).remarks[1].text
    assert text.startswith("No detectable difference between the model and a head on the same backbone with random")
    smallest = close.comparison["random_init"].detectable
    assert text.endswith(f"; these test images show a difference of {100 * smallest:.1f} points four times in five.")
    rows = np.arange(0, 300, 2)
    sampled = against(OtherModel(worse.model[rows], rows, 80))
    text = verdict(sampled).remarks[1].text
    assert text.endswith(" % (fitted to 80 training images, measured on 150 test images).")
    assert "fitted to 80 images, on 150 test images" in render(Report("t", sampled, {}))


def test_a_model_without_fine_tuning_is_not_called_fine_tuned() -> None:
    good, close = answers(300, 0.9), answers(300, 0.89, seed=2)
    same = evaluated(good).model_copy(update={"trained_groups": ()})
    assert verdict(same).remarks[1].text == (
        "The backbone was not trained further: the model is a head on frozen features."
    )
    refitted = evaluated(SplitPredictions(good.targets, good.model, close.model, good.groups))
    text = verdict(refitted.model_copy(update={"trained_groups": ()})).remarks[1].text
    assert text.startswith("No detectable difference between the model and the head on frozen features (")


def test_verdict_of_a_model_that_guesses() -> None:
    found = verdict(evaluated(answers(60, 0.35)))
    assert found.tone == "bad"
    assert found.remarks[0].text.endswith("(33.3 %): do not use it.")
    assert any("typically off by 54." in remark.text for remark in found.remarks)
    assert found.remarks[-1].text.startswith("Only 60 test images")


def test_verdict_says_whether_a_difference_is_detectable() -> None:
    good, worse = answers(300, 0.9), answers(300, 0.7, seed=1)
    text = verdict(evaluated(SplitPredictions(good.targets, good.model, worse.model, good.groups))).remarks[1].text
    assert text.startswith("The fine-tuned model is better than the head on frozen features (+20.0 points, interval +1")
    close = answers(300, 0.89, seed=2)
    text = verdict(evaluated(SplitPredictions(good.targets, good.model, close.model, good.groups))).remarks[1].text
    assert text.startswith("No detectable difference between the fine-tuned model and the head on frozen features (")


def test_weak_slices_and_abstention_are_reported() -> None:
    one = Estimate(value=0.5, low=0.4, high=0.6)
    weak = SliceScore(column="camera", value="old", images=40, correct=20, accuracy=one, p_value=0.001)
    trust = AbstentionScore(
        coverage=0.9,
        held=one,
        set_size=1.1,
        answered=one,
        accuracy_answered=one.model_copy(update={"value": 0.98}),
        foreign=one,
    )
    found = evaluated(answers(300, 0.9)).model_copy(
        update={"slices": [weak, weak.model_copy(update={"p_value": 0.2, "value": "new"})], "trust": trust}
    )
    texts = [remark.text for remark in verdict(found).remarks]
    assert texts[-2] == "Weak where camera is “old”: only 20 of 40 right, not by chance."
    assert texts[-1] == "It can abstain: it then answers 50.0 % of images and is right on 98.0 %."
    origin = Origin("resnet18", "layer4", "none", None, 224, [])
    assert "It can abstain, and you should let it" in markdown(model_card(found, origin), "t")
    assert "It always answers" in markdown(model_card(evaluated(answers(90, 0.9)), origin), "t")


def test_the_card_says_what_it_should_and_is_safe_markdown() -> None:
    found = evaluated(answers(90, 0.9), ("ant", "<script>", "a*b"))
    card = model_card(found, Origin("resnet18", "layer4", "IMAGENET1K_V1", "cd" * 32, 224, ["layer4"]))
    assert [part.title for part in card] == ["The model", "Intended use", "Data", "Metrics", "Limits"]
    text = markdown(card, "Model card: <x>")
    assert text.startswith("# Model card: \\<x\\>\n")
    assert "<script>" not in text
    assert "a\\*b" in text
    assert "90.0 %" in text
    assert "sha256 " + "cd" * 32 in text


def test_the_positive_class_can_be_chosen(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    targets = np.arange(90) % 3 // 2  # "bee" is rare
    score = 1 / (1 + np.exp(-generator.normal(2.0 * targets - 1.0)))
    model = np.stack([1 - score, score], axis=1)
    predicted = SplitPredictions(targets, model, model, np.arange(90))

    def at(positive: int) -> Evaluation:
        return assess(
            predicted,
            predicted,
            targets,
            task=of_labels("ant", "bee"),
            dataset_digest="ab" * 32,
            sampling=SAMPLING,
            positive=positive,
        )

    ant, bee = at(0), at(1)
    assert (ant.positive, bee.positive, evaluated(answers(90, 0.9)).positive) == ("ant", "bee", None)
    assert ant.test["average_precision"].value > bee.test["average_precision"].value
    assert ant.baseline["majority"]["average_precision"].value == pytest.approx(2 / 3)
    assert ant.test["accuracy"] == bee.test["accuracy"]
    assert ant.test["auroc"].value == pytest.approx(bee.test["auroc"].value)
    assert evaluation_plots.roc_table(ant, targets, model)["label"].unique().tolist() == ["ant"]
    assert evaluation_plots.precision_recall_table(ant, targets, model)["label"].unique().tolist() == ["ant"]
    origin = Origin("resnet18", "layer4", "none", None, 224, [])
    chosen = evaluate_threshold(
        (targets, model), (targets, model), np.arange(90), of_labels("ant", "bee"), "max_f1", 0.95, 0
    )
    ant = ant.model_copy(update={"threshold": chosen})
    card = model_card(ant, origin)
    text = markdown(card, "t")
    assert "Positive class (AUROC and average precision refer to it): “ant”." in text
    assert f"Predicted from a probability of {chosen.threshold:.3f} (chosen for the best F1): precision " in text
    page = render(Report("t", ant, {}, evaluation_plots.figures(ant, targets, model, [], []), card=card))
    assert "How well “ant” is separated from “bee” at every threshold" in page
    assert "Threshold for “ant”" in page


def test_images_of_one_video_do_not_narrow_the_interval_of_a_class() -> None:
    targets = np.repeat([0, 1], 100)
    right = np.random.default_rng(0).random(20) < 0.7
    named = np.where(np.repeat(right, 10), targets, 1 - targets)
    probabilities = np.eye(2)[named] * 0.8 + 0.1
    alone, grouped = (
        class_scores(targets, probabilities, groups, ["ant", "bee"], 0.95)
        for groups in (np.arange(200), np.repeat(np.arange(20), 10))
    )
    for one, other in zip(alone, grouped, strict=True):
        assert (one.label, one.recall.value) == (other.label, other.recall.value)
        for narrow, wide in ((one.recall, other.recall), (one.precision, other.precision)):
            widths = [(found.high or 0.0) - (found.low or 0.0) for found in (narrow, wide)]
            assert widths[1] > 2 * widths[0]


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_in_the_test_split_leaves_a_report_that_says_so(label: int) -> None:
    targets = np.full(6, label)
    model = np.full((6, 2), 0.5)
    predicted = SplitPredictions(targets, model, model, np.arange(6))
    task = of_labels("abnormal", "normal")
    found = assess(predicted, predicted, np.arange(30) % 2, task=task, dataset_digest="ab" * 32, sampling=SAMPLING)
    why = f"all test images are {task.labels[label]!r}"
    assert found.undefined["auroc"] == found.undefined["average_precision"] == why
    assert found.test["auroc"] == Estimate(value=None, low=None, high=None)
    assert f"Not defined: auroc and average precision, because {why}." in [said.text for said in verdict(found).remarks]
    origin = Origin("resnet18", "layer4", "IMAGENET1K_V1", "cd" * 32, 96, ["layer4"])
    assert f"AUROC: not defined ({why})" in markdown(model_card(found, origin), "photos")
    counts = {"train": {"abnormal": 15, "normal": 15}, "test": {"abnormal": 0, "normal": 6}}
    figures = evaluation_plots.figures(found, targets, model, [], [])
    assert "not defined" in render(Report("photos", found, counts, figures))
    assert rejection_reasons(found, None, 1.0, RegisterModelParams(metric="auroc"))[:2] == [
        f"{why}: they cannot show that the model tells classes apart",
        f"auroc is not defined on these test images: {why}",
    ]


def test_no_model_is_promoted_on_two_images() -> None:
    def reasons(images: int, metric: str) -> list[str]:
        targets = np.arange(images) % 2
        model = np.eye(2)[targets] * 0.8 + 0.1
        predicted = SplitPredictions(targets, model, model, np.arange(images))
        found = assess(
            predicted,
            predicted,
            np.arange(30) % 2,
            task=of_labels("ant", "bee"),
            dataset_digest="ab" * 32,
            sampling=SAMPLING,
        )
        return rejection_reasons(found, None, 1.0, RegisterModelParams.model_validate({"metric": metric, "max_ece": 1}))

    for metric in ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "average_precision"):
        assert reasons(2, metric), metric
        assert reasons(4, metric), metric
        assert not reasons(40, metric), metric
