"""The page of an adaptation: what differs, what each guard says, which answers changed, and how good it may be."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from graft.adapt.adaptation import AdaptationResult
from graft.core.atomic import write_text
from graft.data.dataset import ImageDataset
from graft.reports.page import stylesheet, template_environment
from graft.reports.svg_charts import bar_chart
from graft.revision.domain_pictures import changed_answers, target_pictures, training_pictures
from graft.stats.confidence_intervals import Interval, wilson

PAGE = "adaptation.html"
MAX_CLASSES = 30
ESTIMATE_ERROR = "0.06 on photos and drawings and by 0.17 on digits"
"""Mean absolute error of agreement as an estimate of accuracy, see docs/adaptation.md."""
NAMES = {
    "images": "Enough images",
    "shift": "A shift",
    "class_gap": "Class frequencies",
    "agreement_gain": "Agreement of two views",
    "check": "Labelled images",
}


LIMITS = {"images": "≥", "shift": ">", "class_gap": "<", "agreement_gain": "≥", "check": "p <"}
"""On which side of its limit a guard holds."""


class LeftOut(NamedTuple):
    """Images that the model was not adapted to."""

    trained: int
    """It was trained on them."""
    checked: int
    """They are labelled, and decide."""
    copies: int
    """Another has the same content."""


def summarise(
    result: AdaptationResult, left_out: LeftOut, times: tuple[float, float] | None, version: str | None
) -> dict[str, Any]:
    """Return the outcome as plain JSON."""
    record = result.record
    found: dict[str, Any] = {
        "kept": record.kept,
        "why": record.why,
        "source": record.source,
        "version": version,
        "domain": record.domain,
        "method": record.method,
        "images": record.images,
        "left_out": left_out._asdict(),
        "unreadable": len(result.images.unreadable),
        "shift": None if record.shift is None else Interval(*record.shift).json(),
        "guards": [guard.model_dump(mode="json") for guard in record.guards],
        "changed": 0 if result.after is None else int((result.after.argmax(1) != result.before.argmax(1)).sum()),
        "estimated_accuracy": None,
        "metrics": {},
    }
    if estimate := estimated_accuracy(result):
        found["estimated_accuracy"] = estimate.json()
    if result.checked:
        before, after = (wilson(int(right.sum()), len(right)) for right in result.checked)
        difference = result.checked.difference.json()
        found["metrics"] = {
            "check_images": len(result.checked.before),
            "accuracy_before": before.json(),
            "accuracy": after.json(),
            "accuracy_difference": difference,
        }
    if times:
        found["milliseconds"] = {"before": round(times[0], 2), "after": round(times[1], 2)}
    return {"adaptation": found}


def estimated_accuracy(result: AdaptationResult) -> Interval | None:
    """Return the agreement of the views with its interval, an estimate of the accuracy; None if nothing was tried."""
    agreement, images = result.record.agreement, result.record.images
    return None if agreement is None else wilson(agreement * images, images)


def write_page(
    folder: Path,
    result: AdaptationResult,
    left_out: LeftOut,
    times: tuple[float, float] | None,
    version: str | None,
    labels: Sequence[str],
    training: ImageDataset | None,
    made: date | None = None,
) -> Path:
    """Write `adaptation.html` into `folder`, and return it; every text that comes from the data is escaped.

    Args:
        folder: exists.
        result: what the page shows.
        left_out: images that the model was not adapted to.
        times: milliseconds of an answer before and after; None if they were not measured.
        version: address of the registered model; None if it was not registered.
        labels: of the model.
        training: the images that it was trained on, if they are at hand.
        made: the date on the page; None: today.
    """
    record = result.record
    absent = [label for label, share in zip(labels, record.shares, strict=False) if share < 0.2 / len(labels)]
    text = (
        template_environment("adaptation_page", package="graft.revision")
        .get_template("adaptation.html.j2")
        .render(
            record=record,
            names=NAMES,
            limits=LIMITS,
            headline=headline(result),
            made=f"{made or date.today():%d %B %Y}",
            estimate=estimated_accuracy(result),
            estimate_error=ESTIMATE_ERROR,
            checked=_checked(result),
            trust=trust_sentence(result),
            absent=absent,
            left_out=left_out,
            unreadable=result.images.unreadable,
            times=times,
            version=version,
            figures=_figures(result, labels),
            known=training_pictures(training, result.bundle.transform) if training else [],
            seen=target_pictures(result),
            changed=changed_answers(result, labels),
            all_changed=summarise(result, left_out, times, version)["adaptation"]["changed"],
            style=stylesheet(),
        )
    )
    write_text(folder / PAGE, text)
    return folder / PAGE


def headline(result: AdaptationResult) -> str:
    """Return the verdict in one sentence."""
    record = result.record
    if record.kept:
        labels = "trained on" if result.checked else "used"
        return f"Adapted to {record.domain}, of which no label was {labels}"
    return f"Left alone on {record.domain}: the model is handed through unchanged"


def trust_sentence(result: AdaptationResult) -> str:
    """Return what became of the model's prediction sets, of abstaining and of out-of-distribution scores."""
    if not result.record.kept:
        return "Prediction sets, abstention and out-of-distribution scores are those of the model as it was."
    if result.bundle.abstention is None:
        return (
            "Prediction sets, abstention and out-of-distribution scores are withheld: those of the source promise "
            "nothing here. With CHECK=labelled.csv (at least 9 images) they are fitted anew."
        )
    count = len(result.checked.before) if result.checked else 0
    return f"Prediction sets, abstention and out-of-distribution scores were fitted anew on {count} labelled images."


def _checked(result: AdaptationResult) -> dict[str, Any] | None:
    if result.checked is None:
        return None
    before, after = (wilson(int(right.sum()), len(right)) for right in result.checked)
    difference = result.checked.difference
    return {"images": len(result.checked.before), "before": before, "after": after, "difference": difference}


def _figures(result: AdaptationResult, labels: Sequence[str]) -> dict[str, str]:
    record = result.record
    if len(labels) > MAX_CLASSES:
        return {}
    shares = {"before": (record.shares_before, "Training images", 2)}
    if record.shares:
        shares["now"] = (record.shares, f"{record.domain}, estimated", 1)
    longest = 100 * max(max(values) for values, _, _ in shares.values())
    return {
        name: bar_chart(
            [(label, round(100 * share, 1)) for label, share in zip(labels, values, strict=True)],
            title=title,
            x_label="per cent of the images",
            colour=colour,
            longest=longest,
        )
        for name, (values, title, colour) in shares.items()
    }
