"""`graft kserve`: the manifest of a service on a cluster."""

from pathlib import Path
from typing import Annotated

import typer
import yaml

from graft.core.atomic import write_text
from graft.core.errors import RegistryError
from pipelines.arguments import one_line_errors
from pipelines.console import options
from pipelines.default_model import default_name


def kserve(
    version: Annotated[int, typer.Option(help="version number; 0: the champion")] = 0,
    storage: Annotated[str, typer.Option(help="URI of the model's files; empty: where MLflow keeps them")] = "",
    namespace: Annotated[str, typer.Option(help="of the service")] = "",
    service_account: Annotated[
        str, typer.Option(help="service account whose credentials are used to fetch the files")
    ] = "",
    out: Annotated[Path, typer.Option(help="the file to write")] = Path("outputs/kserve.yaml"),
    name: options.Name = "",
) -> None:
    """Write the manifest of a KServe InferenceService for a version (Open Inference Protocol V2)."""
    with one_line_errors():
        from graft.serving.kserve import inference_service, storage_uri
        from graft.serving.registry import Registry

        registry = Registry.open(name or default_name())
        chosen = registry.version(version) if version else registry.champion()
        if chosen is None:
            raise RegistryError(f"model {registry.name!r} has no champion; graft models lists the versions")
        manifest = inference_service(
            chosen,
            storage or storage_uri(registry, chosen),
            namespace=namespace or None,
            service_account=service_account or None,
        )
        write_text(out, yaml.safe_dump(manifest, sort_keys=False))
        print(f"{out}: {chosen.uri} for kubectl apply -f")
