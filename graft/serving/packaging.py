"""Pack a model bundle as a self-contained MLflow model: network, transform, labels, code, pinned requirements.

The packed code is `graft.serving.mlflow_model` and the Graft modules that it imports, as a package named after a digest
of their content: two versions with different code can be loaded in one process, and an installed Graft is neither
needed nor in conflict.
"""

import base64
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from graft.core.atomic import read_json_object, write_json, write_text
from graft.core.boundary import readable
from graft.core.errors import ModelError, RegistryError
from graft.evaluation.schema import task_evaluation
from graft.heads.out_of_fold import OUT_OF_FOLD_FILE
from graft.models.bundle_files import task_folder
from graft.models.domains import DOMAINS
from graft.models.export import PARITY, PixelNetwork, export_program
from graft.runs.mlflow_store import quiet_mlflow
from graft.serving.loaded_model import LoadedModel
from graft.serving.server import IMAGE_COLUMN, PACK_AGAIN, PROGRAM_FILE, SPEC_FILE, ServingSpec
from graft.serving.serving_code import ServingCode, serving_code
from graft.stats.abstention import ABSTENTION_FILE
from graft.stats.decision_rule import Rule
from graft.tasks.kinds import parse_task
from graft.tasks.task import Task

NETWORK, BUNDLE, EVIDENCE = "network", "bundle", "evidence"
CHUNK = 64
ENTRY = """import {package}.{task_module}
from mlflow.models import set_model
from {package}.serving.mlflow_model import PackedModel

set_model(PackedModel())
"""


def pack(
    network: PixelNetwork,
    spec: ServingSpec,
    bundle_folder: Path,
    folder: Path,
    example: bytes,
    evidence: Sequence[Path] = (),
    metadata: Mapping[str, str] | None = None,
    evidence_of_tasks: Mapping[str, Sequence[Path]] | None = None,
) -> ServingCode:
    """Write a model as an MLflow model.

    Args:
        network: from `export.pixel_network`.
        spec: labels, transform and temperature.
        bundle_folder: the bundle; its files are packed too, for further training and for use from Python.
        folder: of the MLflow model; must not exist.
        example: content of an image file, kept as the input example.
        evidence: files of the evaluation, packed too.
        metadata: written into the model's `MLmodel` file.
        evidence_of_tasks: files of the evaluation of tasks after the first.

    Returns:
        The code that was packed.

    Raises:
        ModelError: if the network cannot be exported.
    """
    quiet_mlflow()
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec
    from mlflow.types.schema import Array, Map

    code = serving_code(type(spec.task))
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        files = work / NETWORK
        files.mkdir()
        export_program(network, files / PROGRAM_FILE)
        write_json(files / SPEC_FILE, spec.model_dump(mode="json"))
        if (bundle_folder / ABSTENTION_FILE).is_file():
            shutil.copy(bundle_folder / ABSTENTION_FILE, files)
        for one in spec.further:
            rule = task_folder(bundle_folder, one.task.name) / ABSTENTION_FILE
            (files / one.task.name).mkdir()
            if rule.is_file():
                shutil.copy(rule, files / one.task.name)
        # MLflow names artifacts by their folder. Out-of-fold probabilities of training images are not part of a model,
        # and models adapted to other domains are versions of their own.
        shutil.copytree(bundle_folder, work / BUNDLE, ignore=shutil.ignore_patterns(OUT_OF_FOLD_FILE, DOMAINS))
        (work / EVIDENCE).mkdir()
        for file in evidence:
            shutil.copy(file, work / EVIDENCE)
        for task, kept in (evidence_of_tasks or {}).items():
            place = task_evaluation(work / EVIDENCE, task)
            place.mkdir(parents=True)
            for file in kept:
                shutil.copy(file, place)
        entry = work / "model.py"
        write_text(entry, ENTRY.format(package=code.package, task_module=code.task_module))
        package = code.write(work / "code")
        inputs: list[ColSpec | TensorSpec] = [ColSpec(DataType.string, IMAGE_COLUMN)]
        outputs: list[ColSpec | TensorSpec] = []
        for one in spec.by_task:
            before, several = (one.prefix, True) if spec.further else ("", False)
            place = files / one.task.name if one is not spec else files
            outputs += [ColSpec(DataType.string, f"{before}label"), ColSpec(DataType.double, f"{before}confidence")]
            if one.task.lists_answers:
                outputs.append(ColSpec(Array(DataType.string), f"{before}tags"))
            if not several:
                outputs.append(ColSpec(Map(DataType.double), "probabilities"))
            if (place / ABSTENTION_FILE).is_file():
                outputs += [
                    ColSpec(Array(DataType.string), f"{before}set"),
                    ColSpec(DataType.double, f"{before}ood"),
                    ColSpec(DataType.boolean, f"{before}abstain"),
                ]
            if several:
                outputs += [ColSpec(DataType.double, before + label) for label in one.labels]
        with importable(package.parent):
            mlflow.pyfunc.save_model(
                folder,
                python_model=str(entry),
                artifacts={name: str(work / name) for name in (NETWORK, BUNDLE, EVIDENCE)},
                code_paths=[str(package)],
                # A string column accepts bytes too when called from Python; over HTTP it is base64.
                signature=ModelSignature(Schema(inputs), Schema(outputs)),
                input_example=pd.DataFrame({IMAGE_COLUMN: [base64.b64encode(example).decode()]}),
                pip_requirements=list(code.requirements),
                metadata=dict(metadata or {}),
            )
    return code


class PackedPredictor(LoadedModel):
    """A packed classifier, with its labels, tasks and rules."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        file = folder / "artifacts" / NETWORK / SPEC_FILE
        content = read_json_object(file, "labels")
        further = content.get("further", ())
        with readable(file, PACK_AGAIN, ModelError):
            self.labels: tuple[str, ...] = tuple(content["labels"])
            self.task = parse_task(content.get("task"), self.labels)
            self.further: tuple[Task, ...] = tuple(parse_task(one["task"], ()) for one in further)
            rules = [one.get("rule") for one in (content, *further)]  # models packed without one may lack the field
            self.rules = tuple(None if one is None else Rule.model_validate(one) for one in rules)
            """The decision rule of each task."""
        self.rule = self.rules[0]

    def probabilities(self, images: Iterable[bytes]) -> npt.NDArray[np.float64]:
        """Return the probability of every class for the contents of image files, shape (n, classes).

        Raises:
            RegistryError: if it does not predict.
        """
        return self.probabilities_by_task(images)[0]

    def probabilities_by_task(self, images: Iterable[bytes]) -> list[npt.NDArray[np.float64]]:
        """Return the same for each task.

        Raises:
            RegistryError: if it does not predict.
        """
        tasks = (self.task, *self.further)
        found: list[list[list[float]]] = [[] for _ in tasks]
        remaining = iter(images)
        while chunk := list(islice(remaining, CHUNK)):
            table = self.predict(chunk)
            if not self.further:
                found[0] += [[row[label] for label in self.labels] for row in table["probabilities"]]
                continue
            for task, rows in zip(tasks, found, strict=True):
                rows += table[[f"{task.name}.{label}" for label in task.labels]].to_numpy(np.float64).tolist()
        return [
            np.array(rows, dtype=np.float64).reshape(-1, task.outputs) for task, rows in zip(tasks, found, strict=True)
        ]


def check_same_predictions(
    predictor: PackedPredictor,
    images: Sequence[bytes],
    expected: npt.NDArray[np.floating[Any]],
    of_further: Sequence[npt.NDArray[np.floating[Any]]] = (),
) -> float:
    """Return the largest difference between a probability of the packed model and that of the bundle.

    Args:
        predictor: the packed model.
        images: contents of image files.
        expected: probabilities of the bundle itself, shape (n, classes).
        of_further: the same of the tasks after the first, as far as they are known.

    Raises:
        RegistryError: if the difference is more than `PARITY`.
    """
    pairs = zip(predictor.probabilities_by_task(images), (expected, *of_further), strict=False)
    difference = max(float(np.abs(found - wanted).max(initial=0.0)) for found, wanted in pairs)
    if not difference <= PARITY:
        raise RegistryError(
            f"the registered model differs from the bundle by {difference:.2g} in a probability (at most {PARITY})"
        )
    return difference


def example_images(folder: Path) -> list[bytes]:
    """Return the images of a packed model's input example."""
    file = folder / "input_example.json"
    example = read_json_object(file, "columns", "data")
    with readable(file, PACK_AGAIN, ModelError):
        return [base64.b64decode(row[example["columns"].index(IMAGE_COLUMN)]) for row in example["data"]]


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Let MLflow run the entry file once, as it does when it saves a model."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
