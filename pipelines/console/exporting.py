"""`graft export`: a model as files that need no Graft, or as a repository of a hub."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from graft.core.errors import GraftError, ModelError
from graft.runs.step_outputs import latest_output
from pipelines.arguments import one_line_errors
from pipelines.console import options
from pipelines.default_model import default_address
from pipelines.local.last_run import last_model


def export(
    model: options.Address = "",
    out: Annotated[Path, typer.Option(help="output folder")] = Path("outputs/export"),
    int8: Annotated[
        bool, typer.Option("--int8", help="also model.int8.onnx: 8-bit integers, with what they cost")
    ] = False,
    dataset: Annotated[
        Path | None, typer.Option(help="what --int8 is measured on: `dataset` of a run; default: of the last run here")
    ] = None,
    hub: Annotated[bool, typer.Option("--hub", help="also hub/: a repository for the Hugging Face Hub")] = False,
) -> None:
    """Write `model.pt2` (torch.export) and `model.onnx`, and check that both predict like the model."""
    with one_line_errors(), tempfile.TemporaryDirectory() as work:
        from graft.models.export import check_parity, export_onnx, export_program, pixel_network
        from graft.serving.loading import fetch_model
        from graft.serving.server import load_program
        from graft.tasks.pixels import pixel_task

        found = fetch_model(model or default_address(), Path(work))
        if pixel_task(found.bundle) is not None:
            from graft.pixel_serving.pixel_export import export_pixels

            if int8 or hub:
                raise GraftError("--int8 and --hub are for models of classes; this one is about pixels")
            for line in export_pixels(found.bundle, out):
                print(line)
            return
        data = _dataset(dataset) if int8 else None
        bundle = found.load()
        network, shape = pixel_network(bundle.all_heads), bundle.transform.shape
        out.mkdir(parents=True, exist_ok=True)
        program = out / "model.pt2"
        export_program(network, program)
        difference = check_parity(network, load_program(program), shape, "torch.export")
        pixels = ", ".join(map(str, shape))
        print(f"{program}: uint8 pixels (B, {pixels}) to logits and features; differs by {difference:.1g}")
        if hub:
            from graft.serving.hub_folder import write_hub_folder

            write_hub_folder(found, out / "hub")
            print(f"{out / 'hub'}: a repository with the model and its card; say its licence in README.md")
        exact = out / "model.onnx"
        try:
            export_onnx(network, bundle.spec.labels, exact, bundle.labels_by_task)
        except ModelError as error:
            raise ModelError(f"{program} is written; model.onnx is not: {error}") from error
        print(f"{exact}: the same, labels and transform in its metadata")
        if data:
            from graft.data.dataset import ImageDataset
            from graft.models.int8 import export_int8, milliseconds

            small = out / "model.int8.onnx"
            costs = export_int8(exact, small, bundle, ImageDataset.read(data))
            sizes = [file.stat().st_size / 2**20 for file in (exact, small)]
            times = [milliseconds(file, shape) for file in (exact, small)]
            print(
                f"{small}: {sizes[1]:.1f} MB for {sizes[0]:.1f}, {times[1]:.1f} ms an image for {times[0]:.1f} on one "
                "thread of this machine"
            )
            for cost in costs:
                print(f"  {cost}")


def _dataset(named: Path | None) -> Path:
    """Return the folder of the dataset that 8 bits are measured on."""
    last = last_model()
    found = named or (latest_output(Path(last.out), "validate-data", "dataset") if last else None)
    if found is None or not found.is_dir():
        raise GraftError(
            f"{named or 'no run in this folder'}: --int8 needs the images that the model learnt from: "
            "name the folder `dataset` of its run with --dataset"
        )
    return found
