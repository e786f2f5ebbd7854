"""The model that a server answers with: its name and version, its labels, and its answers in one schema."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from graft.core.atomic import read_json_object
from graft.core.errors import DataError
from graft.serving.limits import BusyError, TooLargeError
from graft.serving.packaging import NETWORK
from graft.serving.scoring import Scoring, open_scoring
from graft.serving.server import SPEC_FILE, ServingSpec
from graft.stats.ood import OOD_THRESHOLD


class Answer(BaseModel):
    """What the model says of one image: the columns of `graft.load(...).predict`, with the probabilities in one value.

    A model without an abstention rule has no `set`, `abstain`, `ood` and `reason`.
    """

    model_config = ConfigDict(extra="allow")

    path: str = Field(description="name of the image in the request")
    label: str | None = Field(None, description="the answer")
    confidence: float | None = Field(None, description="probability of the answer")
    probabilities: dict[str, float] | None = Field(None, description="calibrated probability of every label")
    set: list[str] | None = Field(
        None, description="the plausible labels; the right one is among them at the stated coverage"
    )
    abstain: bool | None = Field(None, description="whether it is better to ask a person")
    ood: float | None = Field(None, description="out-of-distribution score, above 1 if unlike the training images")
    reason: str | None = Field(None, description="why the model abstains, in words; empty if it does not")
    error: str | None = Field(None, description="why the image has no answer")


@dataclass(frozen=True)
class ServedModel:
    """A packed model that is loaded."""

    name: str
    version: int
    labels: tuple[str, ...]
    folder: Path
    """Of the packed model."""
    scoring: Scoring
    data_digest: str = ""
    """Digest of the data that it was trained on, if that is known."""
    tasks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Labels of every task, if there are several; `labels` are those of the first."""

    @classmethod
    def load(cls, folder: Path, name: str, version: int, data_digest: str = "") -> "ServedModel":
        """Load the packed model in `folder`, registered as this version of this name.

        Raises:
            RegistryError: if it does not load.
        """
        scoring = open_scoring(folder)
        # of masks and objects, a form of their own
        content = read_json_object(folder / "artifacts" / NETWORK / SPEC_FILE, "labels")
        by_task = ServingSpec.model_validate(content).by_task if content.get("further") else ()
        tasks = {one.task.name: one.labels for one in by_task}
        return cls(name, version, tuple(content["labels"]), folder, scoring, data_digest, tasks)

    def answers(self, images: Sequence[tuple[str, bytes]]) -> list[Answer]:
        """Return the answers for images with their names; a bad one among many has its `error`.

        Raises:
            DataError: if the only image is bad.
            TooLargeError, BusyError: if the request is not to be answered at all.
        """
        try:
            return self._answers(images)
        except (TooLargeError, BusyError):
            raise
        except DataError as error:
            if len(images) == 1:
                raise DataError(f"{images[0][0]}: {str(error).removeprefix('row 0: ')}") from error
        return [self._answer_or_error(image) for image in images]

    def most_probable(self, image: tuple[str, bytes], task: str | None = None) -> str:
        """Return the label that the model thinks most probable, of one of its tasks; None: of the first.

        Raises:
            DataError: if it is not an image.
        """
        found = self.answers([image])[0].model_dump()
        if not self.tasks:
            shares = found["probabilities"] or {}
        else:
            task = task or next(iter(self.tasks))
            shares = {label: found[f"{task}.{label}"] for label in self.tasks[task]}
        own = found["label"]
        return str(own if own in shares else max(shares, key=shares.__getitem__))

    def _answers(self, images: Sequence[tuple[str, bytes]]) -> list[Answer]:
        rows = self.scoring.predict([content for _, content in images]).to_dict("records")
        return [_answer(path, row) for (path, _), row in zip(images, rows, strict=True)]

    def _answer_or_error(self, image: tuple[str, bytes]) -> Answer:
        try:
            return self._answers([image])[0]
        except BusyError:
            raise
        except DataError as error:
            return Answer(path=image[0], error=str(error).removeprefix("row 0: "))


def abstention_reason(answer: Mapping[str, Any]) -> str:
    """Return in words why the model abstains on an image; empty if it does not."""
    if not answer.get("abstain"):
        return ""
    plausible = list(answer.get("set") or ())
    if answer.get("ood", 0.0) > OOD_THRESHOLD:
        return f"Unlike the training images: its score is {answer['ood']:.2f}, and the limit is {OOD_THRESHOLD:g}"
    if not plausible:
        return "No label is plausible enough"
    if len(plausible) > 1:
        return f"{len(plausible)} labels are plausible: {', '.join(plausible[:-1])} and {plausible[-1]}"
    return f"Only {plausible[0]} is plausible, and the answer is another label"


def _answer(path: str, row: Mapping[Any, Any]) -> Answer:
    plain = {name: value.item() if hasattr(value, "item") else value for name, value in row.items()}
    if "abstain" in plain:
        plain["reason"] = abstention_reason(plain)
    return Answer(path=path, **plain)
