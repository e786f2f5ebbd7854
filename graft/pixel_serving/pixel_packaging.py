"""Pack a model of masks or objects as a self-contained MLflow model, as `packaging` does for classifiers."""

import base64
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from graft.core.atomic import replacing, write_json, write_text
from graft.core.errors import ModelError
from graft.runs.mlflow_store import quiet_mlflow
from graft.serving.loaded_model import LoadedModel
from graft.serving.packaging import BUNDLE, EVIDENCE, NETWORK, example_images, importable
from graft.serving.server import IMAGE_COLUMN
from graft.serving.serving_code import ServingCode, code_of

PIXEL_MODULE = "graft.pixel_serving.pixel_model"
ENTRY = """from mlflow.models import set_model
from {package}.pixel_serving.pixel_model import PackedPixels
from {package}.{module} import {name}

set_model(PackedPixels({name}))
"""


@dataclass(frozen=True)
class Served:
    """What is packed for a kind of task."""

    module: str
    """Module and class of the server."""
    name: str
    columns: Mapping[str, str]
    """The columns of its answers: text, number, map of numbers by name, or lists of texts, numbers or boxes."""


def export_program(network: torch.nn.Module, shape: tuple[int, int, int], path: Path) -> None:
    """Write a network of uint8 pixels as a `torch.export` program without pickles.

    Raises:
        ModelError: if it cannot be traced.
    """
    example = torch.zeros(2, *shape, dtype=torch.uint8)
    try:
        with torch.no_grad():
            program = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    except Exception as error:
        raise ModelError(f"the network cannot be exported: {str(error).strip().splitlines()[0]}") from error
    program.example_inputs = None
    with replacing(path) as temporary, temporary.open("wb") as file:
        torch.export.save(program, file)


def pack_pixels(
    served: Served,
    files: Path,
    spec: Mapping[str, Any],
    bundle_folder: Path,
    folder: Path,
    example: bytes,
    evidence: Sequence[Path],
) -> ServingCode:
    """Write an MLflow model.

    Args:
        served: the code that answers.
        files: folder of what it loads; `serving.json` is added.
        spec: the content of `serving.json`; it names labels and task.
        bundle_folder: the bundle; packed too, for further use from Python.
        folder: of the MLflow model; must not exist.
        example: content of an image file, kept as the input example.
        evidence: files of the evaluation, packed too.
    """
    quiet_mlflow()
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array, Map

    types: dict[str, Any] = {"text": DataType.string, "number": DataType.double, "map": Map(DataType.double)}
    types |= {
        "texts": Array(DataType.string),
        "numbers": Array(DataType.double),
        "boxes": Array(Array(DataType.double)),
    }
    code = code_of(PIXEL_MODULE, served.module)
    write_json(files / "serving.json", spec)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        shutil.copytree(files, work / NETWORK)
        shutil.copytree(bundle_folder, work / BUNDLE, ignore=shutil.ignore_patterns("out_of_fold.parquet"))
        (work / EVIDENCE).mkdir()
        for file in evidence:
            shutil.copy(file, work / EVIDENCE)
        entry = work / "model.py"
        module = served.module.removeprefix("graft.")
        write_text(entry, ENTRY.format(package=code.package, module=module, name=served.name))
        package = code.write(work / "code")
        with importable(package.parent):
            mlflow.pyfunc.save_model(
                folder,
                python_model=str(entry),
                artifacts={part: str(work / part) for part in (NETWORK, BUNDLE, EVIDENCE)},
                code_paths=[str(package)],
                signature=ModelSignature(
                    Schema([ColSpec(DataType.string, IMAGE_COLUMN)]),
                    Schema([ColSpec(types[kind], column) for column, kind in served.columns.items()]),
                ),
                input_example=pd.DataFrame({IMAGE_COLUMN: [base64.b64encode(example).decode()]}),
                pip_requirements=list(code.requirements),
            )
    return code


class PackedPixelPredictor(LoadedModel):
    """A packed model of masks or objects."""

    def examples(self) -> list[bytes]:
        """Return the photos of the model's input example."""
        return example_images(self._folder)
