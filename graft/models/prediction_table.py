"""The answers for images as a table, one row each: the schema that Python, CSV, Parquet and HTTP share.

Columns: `path`; the task's answer, `label` and `confidence`; with an abstention rule `set` (the plausible labels),
`abstain` (whether to give no answer) and `ood` (the out-of-distribution score, above 1 for an image unlike the training
images); `p:<label>`, the probability of each label; `error`, why an image has no answer. Labels never meet these names:
they are values, or follow `p:`. (HTTP has the probabilities as one value by label, `probabilities`.)
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
from graft.stats.abstention import Abstention
from graft.stats.decision_rule import Rule, abstain_with_rule
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
    classifier = bundle.classifier.eval()
    with ThreadPoolExecutor(2) as pool:
        for number, chunk in enumerate(_chunks(asked.images)):
            if number == 1:  # worth its preparation for more than one batch
                blank = torch.zeros(1, *bundle.transform.shape, dtype=torch.uint8)
                classifier = for_inference(bundle.classifier, bundle.transform.normalise(blank))
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
                parts.append(_answers(bundle, bundle.probabilities(logits.numpy()), features.numpy()))
    if not parts:
        nothing = np.zeros((0, len(bundle.spec.labels)))
        parts = [_answers(bundle, nothing, np.zeros((0, bundle.classifier.head.spec.features), np.float32))]
    answers = pd.concat(parts, ignore_index=True)
    answers.index = pd.Index([place for place, fault in enumerate(faults) if fault is None])
    if any(faults):
        answers = answers.reindex(range(len(faults)))
    answers.insert(0, "path", pd.Series(names, dtype=object))
    answers["error"] = pd.Series(faults, dtype=object)
    return pd.concat([answers.reset_index(drop=True), _bare(answers, bundle.spec.labels)], axis=1)


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


def _answers(
    bundle: "ModelBundle", probabilities: npt.NDArray[np.float64], features: npt.NDArray[np.float32]
) -> pd.DataFrame:
    columns = answer_columns(bundle.task, probabilities, features, bundle.abstention, bundle.rule)
    if "set" in columns:
        columns["set"] = [tuple(labels) for labels in columns["set"]]
    columns |= {
        PROBABILITY + label: of_label for label, of_label in zip(bundle.spec.labels, probabilities.T, strict=True)
    }
    objects = {name: pd.Series(values, dtype=object) for name, values in columns.items() if name in ("label", "set")}
    return pd.DataFrame({**columns, **objects})


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
