"""The code that runs on a server: image bytes in, labels and probabilities out.

A registered model contains this module and the few that it imports, the network as a `torch.export` program, and
everything else as JSON. So a server needs neither Graft nor the library that provided the backbone.
"""

import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, SerializeAsAny, model_validator

from graft.core.errors import DataError, ModelError
from graft.imaging.transform import Transform
from graft.stats.abstention import ABSTENTION_FILE, Abstention
from graft.stats.decision_rule import Rule, abstain_with_rule
from graft.tasks.kinds import with_task
from graft.tasks.task import Task

IMAGE_COLUMN = "image"
PROGRAM_FILE, SPEC_FILE = "program.pt2", "serving.json"
BATCH = 32


class ServingSpec(BaseModel):
    """Everything that the server needs besides the network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: tuple[str, ...]
    task: SerializeAsAny[Task]
    """The task; models packed before tasks existed are read as single-label classifiers."""
    transform: Transform
    temperature: float = 1.0
    """Divisor of the logits, calibrated on validation images."""
    rule: Rule | None = None
    """Threshold from which the positive class of two is predicted; None: the most probable class is predicted."""

    @model_validator(mode="before")
    @classmethod
    def _with_task(cls, content: Any) -> Any:
        return with_task(content, "labels")

    @model_validator(mode="after")
    def _two_classes(self) -> "ServingSpec":
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

    def __init__(self, spec: ServingSpec, network: torch.nn.Module, abstention: Abstention | None = None) -> None:
        self.spec = spec
        self.abstention = abstention
        self._network = network

    @classmethod
    def load(cls, folder: Path) -> "Classifier":
        """Read the files of a packed model.

        Raises:
            ModelError: if they contain a pickle, which could run any code.
        """
        spec = ServingSpec.model_validate_json((folder / SPEC_FILE).read_text(encoding="utf-8"))
        abstention = Abstention.load(folder) if (folder / ABSTENTION_FILE).is_file() else None
        return cls(spec, load_program(folder / PROGRAM_FILE), abstention)

    def predict(self, images: Sequence[bytes]) -> pd.DataFrame:
        """Return one row per image: the task's answer (`label`, `confidence`), `probabilities` (label to probability).

        With an abstention rule also: `set` (the prediction set), `ood` (out-of-distribution score, 1 at the
        threshold) and `abstain` (whether to give no answer).

        Raises:
            DataError: if one is not an image; it names the row.
        """
        probabilities, features = self.outputs(images)
        labels, task, rule = self.spec.labels, self.spec.task, self.spec.rule
        rows = [dict(zip(labels, row, strict=True)) for row in probabilities.tolist()]
        table = pd.DataFrame({**task.columns(probabilities, rule), "probabilities": rows})
        # MLServer's codecs do not know pandas' own type of text.
        table["label"] = table["label"].astype(object)
        if self.abstention:
            decision = self.abstention.decide(probabilities, features)
            chosen = task.answers(probabilities, rule).chosen
            table["set"] = [[labels[index] for index in np.flatnonzero(row)] for row in decision.sets]
            table["ood"] = decision.ood
            table["abstain"] = abstain_with_rule(chosen, decision.sets, decision.abstain)
        return table

    def outputs(self, images: Sequence[bytes]) -> Outputs:
        """Return the outputs of the network for the contents of image files.

        Raises:
            DataError: if one is not an image; it names the row.
        """
        with torch.inference_mode():
            found = [self._network(batch) for batch in self._batches(images)]
        if not found:
            width = self.abstention.detector.means.shape[1] if self.abstention else 0
            return Outputs(np.zeros((0, len(self.spec.labels))), np.zeros((0, width), np.float32))
        logits, features = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
        return Outputs(self.spec.task.probabilities(logits, self.spec.temperature), features)

    def _batches(self, images: Sequence[bytes]) -> Iterator[torch.Tensor]:
        for start in range(0, len(images), BATCH):
            rows = range(start, min(start + BATCH, len(images)))
            yield torch.stack([self._pixels(images[row], row) for row in rows])

    def _pixels(self, image: bytes, row: int) -> torch.Tensor:
        try:
            return self.spec.transform.pixels(image)
        except DataError as error:
            raise DataError(f"row {row}: {error}") from error


def load_program(path: Path) -> torch.nn.Module:
    """Load a `torch.export` program as a module, after checking that it contains no pickle.

    Raises:
        ModelError: if it contains one.
    """
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if _pickled(archive, entry):
                raise ModelError(f"{path}: {entry.filename} contains a pickle, which could run any code; pack it again")
    return torch.export.load(path).module()


def _pickled(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    """Return whether loading this part of a program would unpickle anything."""
    if "/sample_inputs/" in entry.filename or "/custom_obj" in entry.filename:
        return entry.file_size > 0
    if not entry.filename.endswith("_config.json"):
        return False
    tensors = json.loads(archive.read(entry))["config"]
    return any(tensor["use_pickle"] for tensor in tensors.values())
