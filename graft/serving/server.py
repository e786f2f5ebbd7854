"""The code that runs on a server: image bytes in, labels and probabilities out.

A registered model contains this module and the few that it imports, the network as a `torch.export` program, and
everything else as JSON. So a server needs neither Graft nor the library that provided the backbone.
"""

import json
import logging
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, model_validator

from graft.core.boundary import readable
from graft.core.errors import DataError, ModelError
from graft.imaging.transform import Transform
from graft.serving.limits import Admission, BusyError
from graft.stats.abstention import ABSTENTION_FILE, Abstention
from graft.stats.decision_rule import Rule, abstain_with_rule
from graft.stats.feature_columns import Columns, columns_of
from graft.stats.temperature_scaling import Temperature
from graft.tasks.kinds import check_labels, with_task
from graft.tasks.task import Task

IMAGE_COLUMN = "image"
PROGRAM_FILE, SPEC_FILE = "program.pt2", "serving.json"
PACK_AGAIN = "use another version, or register the model again"
BATCH = 32


class ServingSpec(BaseModel):
    """Everything that the server needs besides the network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: tuple[str, ...]
    task: SerializeAsAny[Task]
    """The task; models packed before tasks existed are read as single-label classifiers."""
    transform: Transform
    temperature: Temperature = 1.0
    """Divisor of the logits, calibrated on validation images."""
    rule: Rule | None = None
    """Threshold from which the positive class of two is predicted; None: the most probable class is predicted."""
    columns: Columns = Field((), exclude_if=lambda columns: not columns)
    """Columns of the network's features that the head reads; empty: all."""
    further: tuple["ServingSpec", ...] = Field((), exclude_if=lambda further: not further)
    """Other tasks that the network answers, in the order of its outputs."""

    @property
    def by_task(self) -> tuple["ServingSpec", ...]:
        """A spec for each task, the first one first."""
        return (self, *self.further)

    @model_validator(mode="before")
    @classmethod
    def _with_task(cls, content: Any) -> Any:
        return with_task(content, "labels")

    @property
    def prefix(self) -> str:
        """What stands before the names of the task's columns, if there are several tasks."""
        return f"{self.task.name}."

    @model_validator(mode="after")
    def _two_classes(self) -> "ServingSpec":
        check_labels(self.labels, self.task)
        if self.rule is not None and len(self.labels) != 2:
            raise ValueError(f"a rule is for two classes, but there are {len(self.labels)}")
        return self


class Outputs(NamedTuple):
    """Outputs of the network for n images."""

    probabilities: npt.NDArray[np.float64]
    """Calibrated probability of every output (n, k)."""
    features: npt.NDArray[np.float32]
    """Inputs of the head (n, D)."""


class Classifier:
    """The network with its transform and labels, and the abstention rule if there is one."""

    def __init__(
        self,
        spec: ServingSpec,
        network: torch.nn.Module,
        abstention: Abstention | None = None,
        further: Sequence[Abstention | None] = (),
    ) -> None:
        self.spec = spec
        self.abstention = abstention
        self._further = further or [None] * len(spec.further)
        self._network = network
        self._admission = Admission()

    @classmethod
    def load(cls, folder: Path) -> "Classifier":
        """Read the files of a packed model.

        Raises:
            ModelError: if one cannot be read, or contains a pickle, which could run any code.
        """
        with readable(folder / SPEC_FILE, PACK_AGAIN, ModelError):
            spec = ServingSpec.model_validate_json((folder / SPEC_FILE).read_text(encoding="utf-8"))
        abstention = Abstention.load(folder) if (folder / ABSTENTION_FILE).is_file() else None
        places = [folder / one.task.name for one in spec.further]
        further = [Abstention.load(place) if (place / ABSTENTION_FILE).is_file() else None for place in places]
        return cls(spec, load_program(folder / PROGRAM_FILE), abstention, further)

    def predict(self, images: Sequence[bytes]) -> pd.DataFrame:
        """Return one row per image: the task's answer (`label`, `confidence`), `probabilities` (label to probability).

        With an abstention rule also: `set` (the prediction set), `ood` (out-of-distribution score, 1 at the
        threshold) and `abstain` (whether to give no answer). Of several tasks, the columns of each begin with its name
        and a dot, and each probability is a column of its own, such as `colour.red`.

        Raises:
            DataError: if one is not an image; it names the row.
            TooLargeError: on a server, if the request exceeds its limits.
        """
        self._admission.check(images)
        found = self.outputs_by_task(images)
        if not self.spec.further:
            return _answers(self.spec, found[0], self.abstention)
        parts = []
        for spec, outputs, abstention in zip(self.spec.by_task, found, (self.abstention, *self._further), strict=True):
            part = _answers(spec, outputs, abstention).drop(columns="probabilities")
            of_labels = dict(zip(spec.labels, outputs.probabilities.T, strict=True))
            parts.append(part.assign(**of_labels).add_prefix(spec.prefix))
        return pd.concat(parts, axis=1)

    def outputs(self, images: Sequence[bytes]) -> Outputs:
        """Return the outputs of the network for the contents of image files; of several tasks, those of the first.

        Raises:
            DataError: if one is not an image; it names the row.
        """
        return self.outputs_by_task(images)[0]

    def outputs_by_task(self, images: Sequence[bytes]) -> list[Outputs]:
        """Return the outputs of the network for each task.

        Raises:
            DataError: if one is not an image; it names the row.
        """
        with torch.inference_mode():
            found = [self._network(batch) for batch in self._batches(images)]
        specs = self.spec.by_task
        if not found:
            widths = [
                abstention.detector.means.shape[1] if abstention else 0
                for abstention in (self.abstention, *self._further)
            ]
            return [
                Outputs(np.zeros((0, len(spec.labels))), np.zeros((0, width), np.float32))
                for spec, width in zip(specs, widths, strict=True)
            ]
        *logits, features = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
        return [
            Outputs(
                spec.task.probabilities(own, spec.temperature),
                columns_of(features, spec.columns) if spec.columns else features,
            )
            for spec, own in zip(specs, logits, strict=True)
        ]

    def _batches(self, images: Sequence[bytes]) -> Iterator[torch.Tensor]:
        for start in range(0, len(images), BATCH):
            rows = range(start, min(start + BATCH, len(images)))
            yield torch.stack([self._pixels(images[row], row) for row in rows])

    def _pixels(self, image: bytes, row: int) -> torch.Tensor:
        try:
            with self._admission.decoding(image, self.spec.transform) as transform:
                return transform.pixels(image)
        except BusyError:
            raise
        except DataError as error:
            raise DataError(f"row {row}: {error}") from error


def _answers(spec: ServingSpec, outputs: Outputs, abstention: Abstention | None) -> pd.DataFrame:
    """Return the answers of one task, one row per image."""
    probabilities, features = outputs
    labels, task, rule = spec.labels, spec.task, spec.rule
    rows = [dict(zip(labels, row, strict=True)) for row in probabilities.tolist()]
    table = pd.DataFrame({**task.columns(probabilities, rule), "probabilities": rows})
    # MLServer's codecs do not know pandas' own type of text.
    table["label"] = table["label"].astype(object)
    if abstention:
        decision = abstention.decide(probabilities, features)
        chosen = task.answers(probabilities, rule).chosen
        table["set"] = [[labels[index] for index in np.flatnonzero(row)] for row in decision.sets]
        table["ood"] = decision.ood
        table["abstain"] = abstain_with_rule(chosen, decision.sets, decision.abstain)
    return table


def load_program(path: Path) -> torch.nn.Module:
    """Load a `torch.export` program as a module, after checking that it contains no pickle.

    Raises:
        ModelError: if it contains one, or cannot be read.
    """
    with readable(path, PACK_AGAIN, ModelError):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if _pickled(archive, entry):
                    raise ModelError(
                        f"{path}: {entry.filename} contains a pickle, which could run any code; pack it again"
                    )
        logging.getLogger("torch.export").setLevel(logging.CRITICAL)  # it prints a traceback of what it raises
        return torch.export.load(path).module()


def _pickled(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    """Return whether loading this part of a program would unpickle anything."""
    if "/sample_inputs/" in entry.filename or "/custom_obj" in entry.filename:
        return entry.file_size > 0
    if not entry.filename.endswith("_config.json"):
        return False
    tensors = json.loads(archive.read(entry))["config"]
    return any(tensor["use_pickle"] for tensor in tensors.values())
