"""Compile a pipeline to the YAML documents that Kubeflow accepts."""

import re
from pathlib import Path
from typing import Any

from graft.core.atomic import replacing, write_text
from graft.params.params import Params
from pipelines.adapt_arguments import AdaptPipelineParams
from pipelines.arguments import pipeline_arguments
from pipelines.batch_arguments import BatchParams
from pipelines.cluster.profile import Profile
from pipelines.cluster.submission import AnyParams
from pipelines.update_arguments import UpdateParams

_WHOLE = re.compile(r"(?<=[:-] )(?=-?\d+\.0$)(-?\d+)\.0$", re.MULTILINE)


def write_pipeline(
    path: Path,
    params: AnyParams | None = None,
    *,
    profile: Profile | None = None,
    data_digest: str | None = None,
    native: bool = False,
    namespace: str | None = None,
    version: str | None = None,
) -> None:
    """Compile the pipeline for `params`: training, batch prediction, update or adaptation.

    Args:
        path: the YAML file to write.
        params: the defaults of the pipeline's parameters; None: the training pipeline without defaults.
        profile: a cluster's settings; None: the file contains only the graph.
        data_digest: of the data that get_data will fetch, if it is known (see `pipelines.cluster.platform`).
        native: write Kubernetes objects (`Pipeline` and `PipelineVersion`) instead of KFP's IR.
        namespace: of the Kubernetes objects.
        version: name of the `PipelineVersion`.
    """
    from kfp.compiler import Compiler

    options: dict[str, Any] = {"pipeline_parameters": _arguments(params) if params else None}
    if native:
        options |= {"kubernetes_manifest_format": True, "kubernetes_manifest_options": _manifest(namespace, version)}
    with replacing(path) as temporary:
        # KFP chooses the format by the file extension.
        named = temporary.with_name(f"{temporary.name}.yaml")
        Compiler().compile(_pipeline(params, profile, data_digest), str(named), **options)
        write_text(named, with_integers(named.read_text("utf-8")))
        named.rename(temporary)


def with_integers(text: str) -> str:
    """Return compiled YAML whose default values are integers where they are whole.

    KFP keeps a section as a protocol buffer, which has no integers: its page would show five folds as 5.0.
    """
    lines, inside = [], None
    for line in text.splitlines(keepends=True):
        indent = len(line) - len(line.lstrip())
        if inside is not None and indent <= inside:
            inside = None
        lines.append(_WHOLE.sub(r"\1", line) if inside is not None else line)
        if line.strip() == "defaultValue:":
            inside = indent
    return "".join(lines)


def _arguments(params: AnyParams) -> dict[str, Any]:
    return pipeline_arguments(params) if isinstance(params, Params) else params.arguments()


def _pipeline(params: AnyParams | None, profile: Profile | None, data_digest: str | None) -> Any:
    if isinstance(params, AdaptPipelineParams):
        from pipelines.adapt import adapt_pipeline as pipeline
    elif isinstance(params, BatchParams):
        from pipelines.batch import batch as pipeline
    elif isinstance(params, UpdateParams):
        from pipelines.update import update as pipeline
    else:
        from pipelines import training

        pipeline = training.pipeline(profile.shards if profile else 1)
    if profile is None:
        return pipeline
    from pipelines.cluster.platform import with_profile

    return with_profile(pipeline, profile, data_digest)


def _manifest(namespace: str | None, version: str | None) -> Any:
    from kfp.compiler.compiler_utils import KubernetesManifestOptions

    return KubernetesManifestOptions(namespace=namespace, pipeline_version_name=version, include_pipeline_manifest=True)
