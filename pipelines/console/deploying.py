"""The commands that deploy a model: `export` to a file that needs no Python, `kserve` for a service on a cluster."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer
import yaml

from graft.core.atomic import write_text
from graft.core.errors import ModelError, RegistryError
from pipelines.arguments import one_line_errors
from pipelines.console import options
from pipelines.default_model import default_address, default_name


def export(
    model: options.Address = "",
    out: Annotated[Path, typer.Option(help="output folder")] = Path("outputs/export"),
) -> None:
    """Write `model.pt2` (torch.export) and `model.onnx`, and check that both predict like the model."""
    with one_line_errors():
        from graft.models.export import check_parity, export_onnx, export_program, pixel_network
        from graft.serving.loading import fetch_model, load_model
        from graft.serving.server import load_program
        from graft.tasks.pixels import pixel_task

        address = model or default_address()
        with tempfile.TemporaryDirectory() as work:
            fetched = fetch_model(address, Path(work)).bundle
            if pixel_task(fetched) is not None:
                from graft.pixel_serving.pixel_export import export_pixels

                for line in export_pixels(fetched, out):
                    print(line)
                return
        bundle = load_model(address)
        network, shape = pixel_network(bundle.all_heads), bundle.transform.shape
        out.mkdir(parents=True, exist_ok=True)
        program = out / "model.pt2"
        export_program(network, program)
        difference = check_parity(network, load_program(program), shape, "torch.export")
        pixels = ", ".join(map(str, shape))
        print(f"{program}: uint8 pixels (B, {pixels}) to logits and features; differs by {difference:.1g}")
        try:
            tasks = {one.task.name: one.spec.labels for one in bundle.by_task} if bundle.further else None
            export_onnx(network, bundle.spec.labels, out / "model.onnx", tasks)
        except ModelError as error:
            raise ModelError(f"{program} is written; model.onnx is not: {error}") from error
        print(f"{out / 'model.onnx'}: the same, labels and transform in its metadata")


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
