"""A short verbal summary of an `Evaluation`: plain words, no stronger than the numbers."""

from typing import Literal, NamedTuple

from graft.evaluation.schema import ClassScore, Estimate, Evaluation, PairedComparison

Tone = Literal["good", "plain", "caution", "bad"]
CALIBRATED_BELOW = 0.05
WEAK_BELOW_MEAN = 0.1
FEW_IMAGES = 100
MOST_SLICES = 2
NEARLY_ALL = 0.995


class Remark(NamedTuple):
    """One sentence and its tone."""

    tone: Tone
    text: str


class Verdict(NamedTuple):
    """The headline, its basis in numbers, and remarks in order of importance."""

    tone: Tone
    headline: str
    basis: str
    remarks: list[Remark]


def verdict(found: Evaluation) -> Verdict:
    """Summarise an evaluation."""
    accuracy, total = found.test["accuracy"], found.images["test"]
    right = round((accuracy.value or 0.0) * total)
    majority = found.comparison["majority"]
    tone: Tone = "good" if majority.outcome == "better" else "bad"
    remarks = [_against_majority(found, majority), *_against_random(found), _against_head(found), _calibration(found)]
    remarks += [*_classes(found), *_slices(found), *_trust(found)]
    if total < FEW_IMAGES:
        remarks.append(
            Remark("caution", f"Only {total} test images: the intervals are wide, and small gains cannot be seen.")
        )
    return Verdict(
        tone,
        f"Right on {percent(accuracy.value)} of the images it had never seen",
        f"{right:,} of {total:,} test images; {100 * found.confidence:.0f} % interval {span(accuracy)}.",
        remarks,
    )


def describe_comparison(pair: PairedComparison, model: str, other: str) -> str:
    """Compare the model with another one in one sentence."""
    difference = pair.differences["accuracy"]
    numbers = f"{points(difference.value)} points, interval {points(difference.low)} to {points(difference.high)}"
    if pair.outcome == "no detectable difference":
        return f"No detectable difference between {model} and {other} ({numbers})."
    return f"{model[0].upper()}{model[1:]} is {pair.outcome} than {other} ({numbers})."


def percent(value: float | None) -> str:
    """Format a rate as per cent."""
    return "n/a" if value is None else f"{100 * value:.1f} %"


def points(value: float | None) -> str:
    """Format a difference of rates in signed percentage points."""
    return "n/a" if value is None else f"{100 * value:+.1f}".replace("-", "\N{MINUS SIGN}")


def span(estimate: Estimate) -> str:
    """Format an interval of a rate as per cent."""
    if estimate.low is None or estimate.high is None:
        return "n/a"
    return f"{100 * estimate.low:.1f} to {100 * estimate.high:.1f} %"


def _against_majority(found: Evaluation, pair: PairedComparison) -> Remark:
    guess = percent(found.baseline["majority"]["accuracy"].value)
    if pair.outcome == "better":
        return Remark("good", f"Better than always predicting the most frequent class, which is right on {guess}.")
    text = f"Not shown to be better than always predicting the most frequent class ({guess}): do not use it."
    return Remark("bad", text)


def _against_random(found: Evaluation) -> list[Remark]:
    pair = found.comparison.get("random_init")
    if not pair:
        return []
    other = percent(found.baseline["random_init"]["accuracy"].value)
    if pair.outcome == "better":
        text = f"Pretraining helps: the same backbone with random weights and its own head is right on {other}."
        return [Remark("good", text)]
    return [Remark("plain", describe_comparison(pair, "the model", "a head on the same backbone with random weights"))]


def _against_head(found: Evaluation) -> Remark:
    pair = found.comparison["head"]
    # Without fine-tuning the two may still differ: the final head may also have been fitted on validation images.
    model = "the model" if found.trained_groups == () else "the fine-tuned model"
    if pair.only_model_right == pair.only_other_right == 0:
        if found.trained_groups == ():
            return Remark("plain", "The backbone was not trained further: the model is a head on frozen features.")
        return Remark("plain", "Fine-tuning changed no answer of the head on frozen features.")
    tone: Tone = {"better": "good", "worse": "bad"}.get(pair.outcome, "plain")  # type: ignore[assignment]
    return Remark(tone, describe_comparison(pair, model, "the head on frozen features"))


def _calibration(found: Evaluation) -> Remark:
    error = found.test["ece"].value if "ece" in found.test else None
    if error is None:
        return Remark("plain", "Its calibration could not be measured.")
    if error < CALIBRATED_BELOW:
        return Remark("good", f"Its probabilities are well calibrated: off by {percent(error)} on average.")
    return Remark("caution", f"Its probabilities are off by {percent(error)} on average: read them as a ranking.")


def _classes(found: Evaluation) -> list[Remark]:
    if not found.per_class:
        return []
    mean = found.test["balanced_accuracy"].value or 0.0
    remarks = []
    tested = [row for row in found.per_class if row.images]
    if tested:
        weakest = tested[0]
        high = weakest.recall.high or 0.0
        weak = high < mean or (weakest.recall.value or 0.0) < mean - WEAK_BELOW_MEAN
        remarks.append(Remark("caution" if weak else "plain", _weakest(weakest)))
    if len(tested) < len(found.per_class):
        untested = ", ".join(f"“{row.label}”" for row in found.per_class if not row.images)
        remarks.append(Remark("caution", f"No test image of {untested}: nothing is known about it."))
    return remarks


def _slices(found: Evaluation) -> list[Remark]:
    weak = [part for part in found.slices if part.p_value < 1 - found.confidence]
    return [
        Remark(
            "caution",
            f"Weak where {part.column} is “{part.value}”: only {part.correct} of {part.images} right, not by chance.",
        )
        for part in weak[:MOST_SLICES]
    ]


def _trust(found: Evaluation) -> list[Remark]:
    if not found.trust:
        return []
    answered, right = found.trust.answered, found.trust.accuracy_answered
    if answered.value is None or right.value is None or answered.value > NEARLY_ALL:
        return []
    text = (
        f"It can abstain: it then answers {percent(answered.value)} of images and is right on {percent(right.value)}."
    )
    return [Remark("plain", text)]


def _weakest(row: ClassScore) -> str:
    rate = f"{percent(row.recall.value)}, interval {span(row.recall)}"
    return f"Weakest on “{row.label}”: {row.correct} of {row.images} found ({rate})."
