"""The answers for images as a table, one row each: the schema that Python, CSV, Parquet and HTTP share.

Columns: `path`; the task's answer, `label` and `confidence`; with an abstention rule `set` (the plausible labels),
`abstain` (whether to give no answer) and `ood` (the out-of-distribution score, above 1 for an image unlike the training
images); `p:<label>`, the probability of each label; `error`, why an image has no answer. Labels never meet these names:
they are values, or follow `p:`. (HTTP has the probabilities as one value by label, `probabilities`.)

Of several tasks, the name of each and a dot stand before its columns: `colour.label`, `colour.confidence`, and so on,
and `colour.red` for the probability of a label.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image

from graft.backbones.bn_folding import for_inference
from graft.core.errors import DataError
from graft.imaging.decode import load
from graft.imaging.multichannel import from_picture
from graft.models.asked_images import asked_images, content
from graft.models.task_heads import head_columns
from graft.stats.abstention import Abstention
from graft.stats.decision_rule import Rule, abstain_with_rule
from graft.stats.feature_columns import columns_of
from graft.tasks.task import Task

if TYPE_CHECKING:
    from graft.models.bundle import ModelBundle

PROBABILITY = "p:"
"""Before a label, in the name of the column of its probability."""
BATCH = 16
OnError = Literal["row", "raise"]


def predict(bundle: "ModelBundle", images: Any, errors: OnError | None = None) -> pd.DataFrame:
    """Answer for images in any form; see `ModelBundle.predict`.

    Raises:
        DataError: if it is nothing that can be asked about, or with `raise`, naming the image that cannot be read.
    """
    asked = asked_images(images)
    stops = (errors or ("raise" if asked.one else "row")) == "raise"
    names: list[str] = []
    faults: list[str | None] = []
    parts: list[pd.DataFrame] = []
    whole = bundle.all_heads
    classifier = whole.eval()
    with ThreadPoolExecutor(2) as pool:
        for number, chunk in enumerate(_chunks(asked.images)):
            if number == 1:  # worth its preparation for more than one batch
                blank = torch.zeros(1, *bundle.transform.shape, dtype=torch.uint8)
                classifier = for_inference(whole, bundle.transform.normalise(blank))
            read = list(pool.map(lambda item: _pixels(bundle, item[1]), chunk))
            names += [name for name, _ in chunk]
            faults += [found if isinstance(found, str) else None for found in read]
            if stops and any(faults):
                place = next(place for place, fault in enumerate(faults) if fault)
                raise DataError(f"{names[place]}: {faults[place]}")
            pixels = [found for found in read if isinstance(found, torch.Tensor)]
            if pixels:
                with torch.inference_mode():
                    batch = bundle.transform.normalise(torch.stack(pixels))
                    features = classifier.features(batch.contiguous(memory_format=torch.channels_last))
                    logits = classifier.head(features)
                parts.append(_answers(bundle, logits.numpy(), features.numpy()))
    if not parts:
        nothing = np.zeros((0, sum(len(one.spec.labels) for one in bundle.by_task)), np.float32)
        parts = [_answers(bundle, nothing, np.zeros((0, whole.head.spec.features), np.float32))]
    answers = pd.concat(parts, ignore_index=True)
    answers.index = pd.Index([place for place, fault in enumerate(faults) if fault is None])
    if any(faults):
        answers = answers.reindex(range(len(faults)))
    answers.insert(0, "path", pd.Series(names, dtype=object))
    answers["error"] = pd.Series(faults, dtype=object)
    if bundle.further:
        return answers.reset_index(drop=True)
    return pd.concat([answers.reset_index(drop=True), _bare(answers, bundle.spec.labels)], axis=1)


def parts_by_task(
    bundle: "ModelBundle", logits: npt.NDArray[np.float32], features: npt.NDArray[np.float32]
) -> "Iterator[tuple[ModelBundle, npt.NDArray[np.float32], npt.NDArray[np.float32]]]":
    """Yield each task's bundle with its logits (n, C) and the features (n, d) that its head reads.

    Args:
        bundle: of one or several tasks.
        logits: of all tasks side by side, as `ModelBundle.all_heads` returns them.
        features: that any of them reads (n, D).
    """
    bundles = bundle.by_task
    if len(bundles) == 1:
        yield bundle, logits, features
        return
    _, columns = head_columns(bundle.spec.backbone, [one.spec.head for one in bundles])
    end = 0
    for one, own in zip(bundles, columns, strict=True):
        start, end = end, end + len(one.spec.labels)
        yield one, logits[:, start:end], columns_of(features, own)


def task_prefix(bundle: "ModelBundle", task: Task) -> tuple[str, str]:
    """Return what stands before the names of a task's columns, and before its labels, in those of probabilities."""
    return (f"{task.name}.", f"{task.name}.") if bundle.further else ("", PROBABILITY)


def answer_columns(
    task: Task,
    probabilities: npt.NDArray[np.float64],
    features: npt.NDArray[np.float32],
    abstention: Abstention | None,
    rule: Rule | None,
) -> dict[str, list[Any]]:
    """Return the columns of the answers for n images, without their probabilities; plain values.

    Args:
        task: what was learnt.
        probabilities: (n, C).
        features: what the head reads (n, D).
        abstention: when to abstain; None: there are no such columns.
        rule: the decision rule, if there is one.
    """
    columns: dict[str, list[Any]] = dict(task.columns(probabilities, rule))
    if abstention:
        decision = abstention.decide(probabilities, features)
        chosen = task.answers(probabilities, rule).chosen
        columns["set"] = [[task.labels[index] for index in np.flatnonzero(row)] for row in decision.sets]
        columns["abstain"] = abstain_with_rule(chosen, decision.sets, decision.abstain).tolist()
        columns["ood"] = decision.ood.tolist()
    return columns


def table_columns(
    bundle: "ModelBundle", logits: npt.NDArray[np.float32], features: npt.NDArray[np.float32]
) -> dict[str, list[Any]]:
    """Return all columns of the answers of all tasks, as plain values; see `parts_by_task` for the arguments."""
    columns: dict[str, list[Any]] = {}
    for one, own_logits, own_features in parts_by_task(bundle, logits, features):
        before, before_label = task_prefix(bundle, one.task)
        probabilities = one.probabilities(own_logits)
        found = answer_columns(one.task, probabilities, own_features, one.abstention, one.rule)
        columns |= {before + name: values for name, values in found.items()}
        of_labels = zip(one.spec.labels, probabilities.T.tolist(), strict=True)
        columns |= {before_label + label: values for label, values in of_labels}
    return columns


def _answers(bundle: "ModelBundle", logits: npt.NDArray[np.float32], features: npt.NDArray[np.float32]) -> pd.DataFrame:
    columns = table_columns(bundle, logits, features)
    text = {task_prefix(bundle, one.task)[0] + name for one in bundle.by_task for name in ("label", "set", "tags")}
    for name in text & columns.keys():
        values = [tuple(value) if isinstance(value, list) else value for value in columns[name]]
        columns[name] = pd.Series(values, dtype=object)  # type: ignore[assignment]
    return pd.DataFrame(columns)


def _bare(answers: pd.DataFrame, labels: tuple[str, ...]) -> pd.DataFrame:
    """Return the probabilities under the bare labels, as until version 1, where no other column has that name."""
    free = [label for label in labels if label not in answers.columns]
    return pd.DataFrame({label: answers[PROBABILITY + label].to_numpy() for label in free})


def _chunks(images: Iterator[tuple[str, Any]]) -> Iterator[list[tuple[str, Any]]]:
    while chunk := list(islice(images, BATCH)):
        yield chunk


def _pixels(bundle: "ModelBundle", image: Any) -> torch.Tensor | str:
    """Return the input of the backbone, or why there is none."""
    transform = bundle.transform
    try:
        found = content(image, transform.channels)
        if isinstance(found, Image.Image):
            return transform.pixels(from_picture(load(found), transform.channels, transform.value_range))
        return transform.pixels(found)
    except (DataError, OSError) as error:
        return str(error)
