"""The pipeline as the documents that Kubeflow takes."""

from pathlib import Path

from graft.files import replacing
from graft.params import Params
from pipelines.arguments import pipeline_arguments
from pipelines.training import training


def write_pipeline(path: Path, params: Params | None = None) -> None:
    """Compile the training pipeline to IR YAML; with `params`, they are the defaults of its parameters."""
    from kfp.compiler import Compiler

    defaults = pipeline_arguments(params) if params else None
    with replacing(path) as temporary:
        # KFP chooses the format by the name's end.
        named = temporary.with_name(f"{temporary.name}.yaml")
        Compiler().compile(training, str(named), pipeline_parameters=defaults)
        named.rename(temporary)
