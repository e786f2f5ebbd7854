"""Pack a model bundle as a self-contained MLflow model: network, transform, labels, code, pinned requirements.

The packed code is `graft.serving.mlflow_model` and the Graft modules that it imports, as a package named after a digest
of their content: two versions with different code can be loaded in one process, and an installed Graft is neither
needed nor in conflict.
"""

import base64
import hashlib
import inspect
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from graft.core.atomic import read_json_object, write_json, write_text
from graft.core.boundary import readable
from graft.core.errors import ModelError, RegistryError
from graft.core.source_code import import_closure, imported_names, is_module
from graft.evaluation.schema import task_evaluation
from graft.heads.out_of_fold import OUT_OF_FOLD_FILE
from graft.models.bundle_files import task_folder
from graft.models.domains import DOMAINS
from graft.models.export import PARITY, PixelNetwork, export_program
from graft.runs.mlflow_store import quiet_mlflow
from graft.serving.loaded_model import LoadedModel
from graft.serving.server import IMAGE_COLUMN, PACK_AGAIN, PROGRAM_FILE, SPEC_FILE, ServingSpec
from graft.stats.abstention import ABSTENTION_FILE
from graft.stats.decision_rule import Rule
from graft.tasks.kinds import parse_task
from graft.tasks.single_label import SingleLabel
from graft.tasks.task import Task

NETWORK, BUNDLE, EVIDENCE = "network", "bundle", "evidence"
CHUNK = 64
PACKAGE = "graft"
SERVING_MODULE = "graft.serving.mlflow_model"
TASKS = "graft.tasks"
_NOTHING: Mapping[str, Path] = MappingProxyType({})
ENTRY = """import {package}.{task_module}
from mlflow.models import set_model
from {package}.serving.mlflow_model import PackedModel

set_model(PackedModel())
"""
# Import name -> name of the distribution, where the two differ.
DISTRIBUTIONS = {"PIL": "pillow"}
OWN_IMPORT = re.compile(r"^(\s*(?:from|import)\s+)graft(?=[.\s])", re.MULTILINE)


@dataclass(frozen=True)
class ServingCode:
    """The modules that a served model needs, by module name, with the distributions they import."""

    sources: Mapping[str, str]
    requirements: tuple[str, ...]
    task_module: str = ""
    """The module that registers the task when it is imported."""

    @property
    def digest(self) -> str:
        """Return the sha256 of all sources."""
        content = "\0".join(f"{name}\0{text}" for name, text in sorted(self.sources.items()))
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def package(self) -> str:
        """Return the name of the package in the packed model."""
        return f"graft_{self.digest[:12]}"

    def write(self, folder: Path) -> Path:
        """Write the modules as a package into `folder`, in the same subfolders as in Graft; return its folder."""
        package = folder / self.package
        for name, text in self.sources.items():
            file = package.joinpath(*name.split(".")[1:]).with_suffix(".py")
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, OWN_IMPORT.sub(rf"\1{self.package}", text))
        for inner in [package, *(path for path in package.rglob("*") if path.is_dir())]:
            write_text(inner / "__init__.py", "")
        write_text(package / "__init__.py", f'"""The Graft modules that the model needs (sha256 {self.digest})."""\n')
        return package


def serving_code(task: type[Task] = SingleLabel) -> ServingCode:
    """Collect the code of a server: its module, the module of the task, and every Graft module that they import.

    A task that is defined outside Graft is packed as a module of `graft.tasks`: its module may import only Graft and
    installed packages, and must `register` the task.
    """
    module, own = task.__module__, {}
    if not module.startswith(f"{PACKAGE}."):
        file = Path(inspect.getfile(task))
        module = f"{TASKS}.{file.stem}"
        own = {module: file}
    named = [name for file in own.values() for name in imported_names(file)] if own else [module]
    code = code_of(SERVING_MODULE, *filter(is_module, named), own=own)
    return replace(code, task_module=module.removeprefix(f"{PACKAGE}."))


def code_of(*modules: str, own: Mapping[str, Path] = _NOTHING) -> ServingCode:
    """Collect modules of Graft, all that they import of it, and files of others under a module's name."""
    files = {**import_closure(*modules), **own}
    libraries = {name.partition(".")[0] for file in files.values() for name in imported_names(file)}
    third_party = sorted(libraries - sys.stdlib_module_names - {PACKAGE})
    pins = tuple(_pin(DISTRIBUTIONS.get(name, name)) for name in third_party)
    sources = {name: file.read_text(encoding="utf-8") for name, file in files.items()}
    return ServingCode(sources, pins)


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


def _pin(distribution: str) -> str:
    """Return the installed version as a requirement, without its local part: `2.1+cpu` is on one index alone."""
    return f"{distribution}=={version(distribution).partition('+')[0]}"


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Let MLflow run the entry file once, as it does when it saves a model."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
