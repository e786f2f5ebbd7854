"""The pipeline as the documents that Kubeflow takes."""

from pathlib import Path

from graft.files import replacing
from graft.params import Params
from pipelines.arguments import pipeline_arguments
from pipelines.training import training


def write_pipeline(params: Params, path: Path) -> None:
    """Compile the training pipeline to IR YAML, its parameters' defaults taken from `params`."""
    from kfp.compiler import Compiler

    with replacing(path) as temporary:
        # KFP chooses the format by the name's end.
        named = temporary.with_name(f"{temporary.name}.yaml")
        Compiler().compile(training, str(named), pipeline_parameters=pipeline_arguments(params))
        named.rename(temporary)
