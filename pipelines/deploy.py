"""Deploy a trained model: as a file that needs no Python, or as a service on a cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
import yaml

from graft.core.atomic import write_text
from graft.core.errors import GraftError, ModelError, RegistryError
from graft.runs.params import Params

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
Name = Annotated[str, typer.Option(help="registered name; empty: register_model.name of params.yaml")]


@app.command()
def export(
    model: Annotated[str, typer.Option(help="bundle's folder or models:/name@alias; empty: the champion")] = "",
    out: Annotated[Path, typer.Option(help="output folder")] = Path("outputs/export"),
) -> None:
    """Write `model.pt2` (torch.export) and `model.onnx`, and check that both predict like the model."""
    with _one_line_errors():
        from graft.models.export import check_parity, export_onnx, export_program, pixel_network
        from graft.serving.loading import load_model
        from graft.serving.server import load_program

        bundle = load_model(model or f"models:/{Params.load().register_model.name}@champion")
        network, shape = pixel_network(bundle.classifier), bundle.transform.shape
        out.mkdir(parents=True, exist_ok=True)
        program = out / "model.pt2"
        export_program(network, program)
        difference = check_parity(network, load_program(program), shape, "torch.export")
        pixels = ", ".join(map(str, shape))
        print(f"{program}: uint8 pixels (B, {pixels}) to logits and features; differs by {difference:.1g}")
        try:
            export_onnx(network, bundle.spec.labels, out / "model.onnx")
        except ModelError as error:
            raise ModelError(f"{program} is written; model.onnx is not: {error}") from error
        print(f"{out / 'model.onnx'}: the same, labels and transform in its metadata")


@app.command()
def kserve(
    version: Annotated[int, typer.Option(help="version number; 0: the champion")] = 0,
    storage: Annotated[str, typer.Option(help="URI of the model's files; empty: where MLflow keeps them")] = "",
    namespace: Annotated[str, typer.Option(help="of the service")] = "",
    service_account: Annotated[
        str, typer.Option(help="service account whose credentials are used to fetch the files")
    ] = "",
    out: Annotated[Path, typer.Option(help="the file to write")] = Path("outputs/kserve.yaml"),
    name: Name = "",
) -> None:
    """Write the manifest of a KServe InferenceService for a version (Open Inference Protocol V2)."""
    with _one_line_errors():
        from graft.serving.kserve import inference_service, storage_uri
        from graft.serving.registry import Registry

        registry = Registry.open(name or Params.load().register_model.name)
        chosen = registry.version(version) if version else registry.champion()
        if chosen is None:
            raise RegistryError(f"model {registry.name!r} has no champion; make models lists the versions")
        manifest = inference_service(
            chosen,
            storage or storage_uri(registry, chosen),
            namespace=namespace or None,
            service_account=service_account or None,
        )
        write_text(out, yaml.safe_dump(manifest, sort_keys=False))
        print(f"{out}: {chosen.uri} for kubectl apply -f")


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except GraftError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    app()
