"""What people read in MLflow about a run and its model: names and short texts in Markdown."""

from graft.evaluation.schema import Evaluation
from graft.serving.registered_version import Version

MOST_LABELS = 8


def run_name(data: str, backbone: str, judged: Evaluation) -> str:
    """Return a name that tells a run from others: its data, its backbone and its score."""
    score = judged.test[judged.task.headline].value
    return " · ".join([*([data] if data else []), backbone, "undefined" if score is None else f"{score:.3f}"])


def run_description(data: str, judged: Evaluation, version: Version, reasons: tuple[str, ...]) -> str:
    """Return what a run led to: the score, the version, and why that was not promoted."""
    decision = "promoted" if not reasons else "not promoted: " + "; ".join(reasons)
    return f"{data or 'Images'}: {score_text(judged)}.\n\n**{version.name} version {version.number}**, {decision}."


def model_description(name: str, data: str, labels: tuple[str, ...]) -> str:
    """Return what a registered model is for, and the code that uses it."""
    shown = ", ".join(labels[:MOST_LABELS]) + (f" and {len(labels) - MOST_LABELS} more" if labels[MOST_LABELS:] else "")
    return f"""An image classifier{f" for {data}" if data else ""}: {shown}.

```python
from graft import load

model = load("models:/{name}@champion")
model.predict(["picture.jpg"])  # label, confidence and the probability of every label
```

Without Graft, `mlflow.pyfunc.load_model("models:/{name}@champion")` takes a table with a column `image` of bytes.
"""


def score_text(judged: Evaluation) -> str:
    """Return the most important metric with its interval, and the number of images it rests on."""
    metric, images = judged.task.headline, judged.images["test"]
    score, name = judged.test[metric], metric.replace("_", " ").capitalize()
    if score.value is None:
        return f"{name} is not defined on {images} test images"
    return f"{name} {score.value:.3f} ({score.low:.3f} to {score.high:.3f}) on {images} test images"
