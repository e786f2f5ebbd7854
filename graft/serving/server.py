"""What runs where the model is served: image bytes in, labels and probabilities out.

The registered model carries this module and the few it imports as its own code, the network as a `torch.export`
program, and the rest of what it needs as JSON: a server needs neither Graft nor the libraries the network came from.
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
    """What the server must know besides the network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: tuple[str, ...]
    task: SerializeAsAny[Task]
    """What was learnt; in models packed before tasks which of `labels` an image shows."""
    transform: Transform
    temperature: float = 1.0
    """The logits are divided by it: calibrated on validation images."""
    rule: Rule | None = None
    """From when on the positive one of two classes is answered; None: the most probable one is."""

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
    """What comes out of the network for n images."""

    probabilities: npt.NDArray[np.float64]
    """Calibrated, of every output (n, k)."""
    features: npt.NDArray[np.float32]
    """What the head reads (n, D)."""


class Classifier:
    """The network with its transform and labels, and with the rule when to believe it if there is one."""

    def __init__(self, spec: ServingSpec, network: torch.nn.Module, trust: Abstention | None = None) -> None:
        self.spec = spec
        self.trust = trust
        self._network = network

    @classmethod
    def load(cls, folder: Path) -> "Classifier":
        """Read the files of a packed model.

        Raises:
            ModelError: if they hold a pickle, which could run any code.
        """
        spec = ServingSpec.model_validate_json((folder / SPEC_FILE).read_text(encoding="utf-8"))
        trust = Abstention.load(folder) if (folder / ABSTENTION_FILE).is_file() else None
        return cls(spec, load_program(folder / PROGRAM_FILE), trust)

    def predict(self, images: Sequence[bytes]) -> pd.DataFrame:
        """Return one row per image: the task's answer (`label`, `confidence`), `probabilities` (label to probability).

        With a rule when to believe an answer also: `set` (labels that are plausible), `ood` (about 1 for an image
        like the training images) and `abstain` (better not to answer).

        Raises:
            DataError: if one is no image, naming its row.
        """
        probabilities, features = self.outputs(images)
        labels, task, rule = self.spec.labels, self.spec.task, self.spec.rule
        rows = [dict(zip(labels, row, strict=True)) for row in probabilities.tolist()]
        table = pd.DataFrame({**task.columns(probabilities, rule), "probabilities": rows})
        if self.trust:
            judged = self.trust.decide(probabilities, features)
            chosen = task.answers(probabilities, rule).chosen
            table["set"] = [[labels[index] for index in np.flatnonzero(row)] for row in judged.sets]
            table["ood"] = judged.ood
            table["abstain"] = abstain_with_rule(chosen, judged.sets, judged.abstain)
        return table

    def outputs(self, images: Sequence[bytes]) -> Outputs:
        """Return what comes out of the network for files' contents.

        Raises:
            DataError: if one is no image, naming its row.
        """
        with torch.inference_mode():
            found = [self._network(batch) for batch in self._batches(images)]
        if not found:
            width = self.trust.detector.means.shape[1] if self.trust else 0
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
    """Open a `torch.export` program as a module, having looked that it holds no pickle.

    Raises:
        ModelError: if it does.
    """
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if _pickled(archive, entry):
                raise ModelError(f"{path}: {entry.filename} holds a pickle, which could run any code; pack it again")
    return torch.export.load(path).module()


def _pickled(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    """Say whether loading this part of a program would unpickle something."""
    if "/sample_inputs/" in entry.filename or "/custom_obj" in entry.filename:
        return entry.file_size > 0
    if not entry.filename.endswith("_config.json"):
        return False
    tensors = json.loads(archive.read(entry))["config"]
    return any(tensor["use_pickle"] for tensor in tensors.values())
