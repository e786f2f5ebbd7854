"""A model bundle as an MLflow model that carries all it needs: network, transform, labels, code, pins.

The code it carries is `graft.serving.mlflow_model` and the modules of ours that it imports, under a name made
from their content: two versions with different code can be loaded in one process, and an installed Graft is neither
needed nor in the way.
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
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from graft.core.atomic import read_json, write_json, write_text
from graft.core.errors import RegistryError
from graft.core.source_code import closure, imported, is_module
from graft.heads.out_of_fold import OUT_OF_FOLD_FILE
from graft.models.export import PARITY, PixelNetwork, export_program
from graft.runs.mlflow_store import hush
from graft.serving.latency import undisturbed_milliseconds
from graft.serving.server import IMAGE_COLUMN, PROGRAM_FILE, SPEC_FILE, ServingSpec
from graft.stats.abstention import ABSTENTION_FILE
from graft.tasks.kinds import parse_task
from graft.tasks.single_label import SingleLabel
from graft.tasks.task import Task

NETWORK, BUNDLE, EVIDENCE = "network", "bundle", "evidence"
CHUNK = 64
PACKAGE = "graft"
SERVING_MODULE = "graft.serving.mlflow_model"
TASKS = "graft.tasks"
ENTRY = """import {package}.{task_module}
from mlflow.models import set_model
from {package}.serving.mlflow_model import PackedModel

set_model(PackedModel())
"""
# Import name -> the distribution that has it, where the two differ.
DISTRIBUTIONS = {"PIL": "pillow"}
OWN_IMPORT = re.compile(r"^(\s*(?:from|import)\s+)graft(?=[.\s])", re.MULTILINE)


@dataclass(frozen=True)
class CarriedCode:
    """The modules a served model needs, by module name, with the distributions they import."""

    sources: Mapping[str, str]
    requirements: tuple[str, ...]
    task_module: str
    """Which of them makes the task known when it is imported."""

    @property
    def digest(self) -> str:
        """Return the sha256 of all sources."""
        content = "\0".join(f"{name}\0{text}" for name, text in sorted(self.sources.items()))
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def package(self) -> str:
        """Return the name the modules have in the packed model."""
        return f"graft_{self.digest[:12]}"

    def write(self, folder: Path) -> Path:
        """Write the modules into `folder`, each where it lies in Graft; return the package's folder."""
        package = folder / self.package
        for name, text in self.sources.items():
            file = package.joinpath(*name.split(".")[1:]).with_suffix(".py")
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, OWN_IMPORT.sub(rf"\1{self.package}", text))
        for inner in [package, *(path for path in package.rglob("*") if path.is_dir())]:
            write_text(inner / "__init__.py", "")
        write_text(package / "__init__.py", f'"""What the model needs of Graft (sha256 {self.digest})."""\n')
        return package


def carried_code(task: type[Task] = SingleLabel) -> CarriedCode:
    """Collect what a server runs: its module, that of the task, and every module of ours that they import.

    A task that is defined outside of Graft travels as one of `graft.tasks`: its module must import nothing but Graft
    and installed packages, and `register` the task.
    """
    module, own = task.__module__, {}
    if not module.startswith(f"{PACKAGE}."):
        file = Path(inspect.getfile(task))
        module = f"{TASKS}.{file.stem}"
        own = {module: file}
    named = [name for file in own.values() for name in imported(file)] if own else [module]
    files = {**closure(SERVING_MODULE, *filter(is_module, named)), **own}
    libraries = {name.partition(".")[0] for file in files.values() for name in imported(file)}
    third_party = sorted(libraries - sys.stdlib_module_names - {PACKAGE})
    pins = tuple(f"{found}=={version(found)}" for found in (DISTRIBUTIONS.get(name, name) for name in third_party))
    sources = {name: file.read_text(encoding="utf-8") for name, file in files.items()}
    return CarriedCode(sources, pins, module.removeprefix(f"{PACKAGE}."))


def pack(
    network: PixelNetwork,
    spec: ServingSpec,
    bundle_folder: Path,
    folder: Path,
    example: bytes,
    evidence: Sequence[Path] = (),
    metadata: Mapping[str, str] | None = None,
) -> CarriedCode:
    """Write a model as an MLflow model.

    Args:
        network: as `export.pixel_network` gives it.
        spec: labels, transform and temperature.
        bundle_folder: the bundle's files are kept beside the program, for training on and for Python.
        folder: the MLflow model's, must not exist.
        example: an image's content, kept as the input example.
        evidence: files on how good it is, kept beside it.
        metadata: kept in the model's description file.

    Returns:
        The code that the model carries.

    Raises:
        ModelError: if the network cannot be exported.
    """
    hush()
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec
    from mlflow.types.schema import Array, Map

    code = carried_code(type(spec.task))
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        files = work / NETWORK
        files.mkdir()
        export_program(network, files / PROGRAM_FILE)
        write_json(files / SPEC_FILE, spec.model_dump(mode="json"))
        trusted = (bundle_folder / ABSTENTION_FILE).is_file()
        if trusted:
            shutil.copy(bundle_folder / ABSTENTION_FILE, files)
        # MLflow names what it keeps by its folder. What a head said of its training images is no part of a model.
        shutil.copytree(bundle_folder, work / BUNDLE, ignore=shutil.ignore_patterns(OUT_OF_FOLD_FILE))
        (work / EVIDENCE).mkdir()
        for file in evidence:
            shutil.copy(file, work / EVIDENCE)
        entry = work / "model.py"
        write_text(entry, ENTRY.format(package=code.package, task_module=code.task_module))
        package = code.write(work / "code")
        inputs: list[ColSpec | TensorSpec] = [ColSpec(DataType.string, IMAGE_COLUMN)]
        outputs: list[ColSpec | TensorSpec] = [
            ColSpec(DataType.string, "label"),
            ColSpec(DataType.double, "confidence"),
            ColSpec(Map(DataType.double), "probabilities"),
        ]
        if trusted:
            outputs += [
                ColSpec(Array(DataType.string), "set"),
                ColSpec(DataType.double, "ood"),
                ColSpec(DataType.boolean, "abstain"),
            ]
        with _importable(package.parent):
            mlflow.pyfunc.save_model(
                folder,
                python_model=str(entry),
                artifacts={name: str(work / name) for name in (NETWORK, BUNDLE, EVIDENCE)},
                code_paths=[str(package)],
                # A string column takes bytes too when called from Python; over HTTP it is base64.
                signature=ModelSignature(Schema(inputs), Schema(outputs)),
                input_example=pd.DataFrame({IMAGE_COLUMN: [base64.b64encode(example).decode()]}),
                pip_requirements=list(code.requirements),
                metadata=dict(metadata or {}),
            )
    return code


class PackedPredictor:
    """A packed model, loaded as a server would load it, at its first prediction."""

    def __init__(self, folder: Path) -> None:
        content = read_json(folder / "artifacts" / NETWORK / SPEC_FILE)
        self.labels: tuple[str, ...] = tuple(content["labels"])
        self.task = parse_task(content.get("task"), self.labels)
        self._folder = folder

    def predict(self, images: Sequence[bytes]) -> pd.DataFrame:
        """Return the table that the served model answers with.

        Raises:
            RegistryError: if it does not load or predict.
        """
        encoded = [base64.b64encode(image).decode() for image in images]
        try:
            table: pd.DataFrame = self._model.predict(pd.DataFrame({IMAGE_COLUMN: encoded}))
        except RegistryError:
            raise
        except Exception as error:  # whatever is wrong with files, code or images
            raise RegistryError(f"the registered model does not predict: {_line(error)}") from error
        return table

    @cached_property
    def _model(self) -> Any:
        # At the first prediction: who only asks for the labels need not wait.
        hush()
        import mlflow.pyfunc

        try:
            return mlflow.pyfunc.load_model(str(self._folder))
        except Exception as error:
            raise RegistryError(f"the registered model does not load: {_line(error)}") from error

    def probabilities(self, images: Iterable[bytes]) -> npt.NDArray[np.float64]:
        """Return the probability of every class for files' contents, shape (n, classes).

        Raises:
            RegistryError: if it does not predict.
        """
        found: list[list[float]] = []
        remaining = iter(images)
        while chunk := list(islice(remaining, CHUNK)):
            found += [[row[label] for label in self.labels] for row in self.predict(chunk)["probabilities"]]
        return np.array(found, dtype=np.float64).reshape(-1, len(self.labels))

    def milliseconds(self, images: Sequence[bytes]) -> float:
        """Return the time of one image by itself, as nothing disturbs the machine; see `latency`."""
        return undisturbed_milliseconds(lambda image: self.predict([image]), images)


def parity(predictor: PackedPredictor, images: Sequence[bytes], expected: npt.NDArray[np.floating[Any]]) -> float:
    """Return by how much a probability of the packed model differs at most from the bundle's own.

    Args:
        predictor: the packed model.
        images: files' contents.
        expected: what the bundle itself says, shape (n, classes).

    Raises:
        RegistryError: if that is more than `PARITY`.
    """
    difference = float(np.abs(predictor.probabilities(images) - expected).max(initial=0.0))
    if not difference <= PARITY:
        raise RegistryError(
            f"the registered model differs from the bundle by {difference:.2g} in a probability (at most {PARITY})"
        )
    return difference


def example_images(folder: Path) -> list[bytes]:
    """Return the images that a packed model was given as its input example."""
    example = read_json(folder / "input_example.json")
    return [base64.b64decode(row[example["columns"].index(IMAGE_COLUMN)]) for row in example["data"]]


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let MLflow run the entry file once, as it does when it saves a model."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
