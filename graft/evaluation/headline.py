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
    tone: Tone = "good" if worth_using(found) else "bad"
    remarks = [against_guessing(found), *_against_random(found), _against_head(found), _calibration(found)]
    remarks += [*_undefined(found), *_classes(found), *_slices(found), *_trust(found)]
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
    if pair.outcome == "identical":
        return f"{model[0].upper()}{model[1:]} gives the same answers as {other}."
    difference = pair.differences["accuracy"]
    numbers = f"{points(difference.value)} points, interval {points(difference.low)} to {points(difference.high)}"
    if pair.outcome == "no detectable difference":
        return f"No detectable difference between {model} and {other} ({numbers}){_power(pair)}."
    return f"{model[0].upper()}{model[1:]} is {pair.outcome} than {other} ({numbers})."


def _power(pair: PairedComparison) -> str:
    """Say which difference these images would have shown."""
    if pair.detectable is None:
        return ""
    return f"; these test images show a difference of {100 * pair.detectable:.1f} points four times in five"


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


def beats_guessing(found: Evaluation, metric: str = "accuracy") -> bool:
    """Return whether the model is shown to be better than always predicting the most frequent class."""
    pair = found.comparison["majority"]
    if metric == "accuracy":
        return pair.outcome == "better"
    low = pair.differences[metric].low if metric in pair.differences else None
    return low is not None and low > 0


def worth_using(found: Evaluation) -> bool:
    """Return whether the model is shown to beat guessing: the verdict of page, card and promotion gate alike.

    Where one class is far more frequent, no model need be right more often; finding the rarer classes counts as well.
    """
    return beats_guessing(found) or beats_guessing(found, "balanced_accuracy" if found.task.exclusive else "macro_f1")


def against_guessing(found: Evaluation) -> Remark:
    """Compare the model with always predicting the most frequent class in one sentence."""
    guess = percent(found.baseline["majority"]["accuracy"].value)
    if beats_guessing(found):
        return Remark("good", f"Better than always predicting the most frequent class, which is right on {guess}.")
    text = f"Not shown to be right more often than always predicting the most frequent class ({guess})"
    if worth_using(found):
        return Remark("caution", f"{text}, but it finds the other classes too: its balanced accuracy is higher.")
    return Remark("bad", f"{text}: do not use it.")


def _against_random(found: Evaluation) -> list[Remark]:
    pair = found.comparison.get("random_init")
    if not pair:
        return []
    other = percent(found.baseline["random_init"]["accuracy"].value)
    if pair.outcome == "better":
        text = f"Pretraining helps: the same backbone with random weights and its own head is right on {other}"
        return [Remark("good", f"{text}{_sampled(pair)}.")]
    return [Remark("plain", describe_comparison(pair, "the model", "a head on the same backbone with random weights"))]


def _sampled(pair: PairedComparison) -> str:
    """Say which images another model was fitted to and measured on, if these are samples."""
    parts = []
    if pair.trained_on is not None:
        parts.append(f"fitted to {pair.trained_on:,} training images")
    if pair.images is not None:
        parts.append(f"measured on {pair.images:,} test images")
    return f" ({', '.join(parts)})" if parts else ""


def _against_head(found: Evaluation) -> Remark:
    pair = found.comparison["head"]
    # Without fine-tuning the two may still differ: the final head may also have been fitted on validation images.
    model = "the model" if found.trained_groups == () else "the fine-tuned model"
    if pair.outcome == "identical":
        if found.trained_groups == ():
            return Remark("plain", "The backbone was not trained further: the model is a head on frozen features.")
        return Remark("plain", "Fine-tuning changed no answer of the head on frozen features.")
    tone: Tone = {"better": "good", "worse": "bad"}.get(pair.outcome, "plain")  # type: ignore[assignment]
    return Remark(tone, describe_comparison(pair, model, "the head on frozen features"))


def _calibration(found: Evaluation) -> Remark:
    error = found.test["ece"].value if "ece" in found.test else None
    if error is None:
        return Remark("plain", "Its calibration could not be measured.")
    high = found.test["ece"].high
    if error < CALIBRATED_BELOW and high is not None and high >= 2 * CALIBRATED_BELOW:
        most = f"typically off by {percent(error)}, but perhaps by {percent(high)}"
        return Remark("plain", f"Its probabilities seem calibrated: {most} (the test images cannot tell).")
    if error < CALIBRATED_BELOW:
        about = percent(error) if error >= 0.0005 else "less than 0.1 %"
        return Remark("good", f"Its probabilities are well calibrated: typically off by {about}.")
    return Remark("caution", f"Its probabilities are typically off by {percent(error)}: read them as a ranking.")


def _undefined(found: Evaluation) -> list[Remark]:
    """Say which metrics have no value, and why."""
    by_reason: dict[str, list[str]] = {}
    for name, why in found.undefined.items():
        by_reason.setdefault(why, []).append(name.replace("_", " "))
    return [
        Remark("caution", f"Not defined: {' and '.join(names)}, because {why}.") for why, names in by_reason.items()
    ]


def _classes(found: Evaluation) -> list[Remark]:
    if not found.per_class:
        return []
    recalls = [row.recall.value for row in found.per_class if row.recall.value is not None]
    mean = found.test["balanced_accuracy"].value or 0.0 if found.task.exclusive else sum(recalls) / max(1, len(recalls))
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
