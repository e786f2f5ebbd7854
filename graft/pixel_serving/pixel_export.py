"""Write a model of masks as `torch.export` program and ONNX, after checking that both compute the same."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from graft.core.atomic import replacing
from graft.core.errors import ModelError
from graft.decoders.mask_bundle import MaskBundle, PixelMaskNetwork
from graft.models.export import OPSET, PARITY, quiet_exporter
from graft.pixel_serving.pixel_packaging import export_program
from graft.serving.server import load_program
from graft.tasks.pixels import pixel_task

BATCHES = (1, 3)


def export_pixels(folder: Path, out: Path) -> Iterator[str]:
    """Export a bundle into `out`; yield a line about each file.

    Raises:
        ModelError: if it cannot be exported, or an export computes something else.
    """
    task = pixel_task(folder)
    if task is None or task.kind != "segment":
        raise ModelError(
            "not exported, because the detector's proposals have no fixed number, which torch.export and ONNX need; "
            "its bundle and its registered model answer as they are"
        )
    bundle = MaskBundle.load(folder)
    network, shape = bundle.pixel_network(), bundle.transform.shape
    out.mkdir(parents=True, exist_ok=True)
    program = out / "model.pt2"
    export_program(network, shape, program)
    worst = _parity(network, load_program(program), shape, "torch.export")
    pixels = ", ".join(map(str, shape))
    logits = f"logits (B, {len(bundle.spec.labels)}, h, w)"
    yield f"{program}: uint8 pixels (B, {pixels}) of letterboxed photos to {logits}; differs by {worst:.1g}"
    worst = export_onnx(network, bundle, out / "model.onnx")
    yield f"{out / 'model.onnx'}: the same, labels and transform in its metadata; differs by {worst:.1g}"


def export_onnx(network: PixelMaskNetwork, bundle: MaskBundle, path: Path) -> float:
    """Write the network as an ONNX file after checking it; return the largest difference.

    Raises:
        ModelError: if the packages of the extra `onnx` are not installed, or the export computes something else.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  # torch.onnx imports it, and fails less clearly without
    except ImportError as error:
        raise ModelError(f"{error.name} is not installed; ONNX needs: pip install 'graft-vision[onnx]'") from error
    shape = bundle.transform.shape
    example = torch.zeros(2, *shape, dtype=torch.uint8)
    with torch.no_grad(), quiet_exporter():
        program = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        exported = torch.onnx.export(
            program, input_names=["pixels"], output_names=["logits"], opset_version=OPSET, dynamo=True, verbose=False
        )
    if exported is None:
        raise ModelError("the network cannot be exported to ONNX")
    model = exported.model_proto
    for part in (*model.graph.node, *model.graph.initializer, *model.graph.value_info, model.graph):
        del part.metadata_props[:]
    facts = {"labels": json.dumps(list(bundle.spec.labels)), "transform": bundle.transform.model_dump_json()}
    onnx.helper.set_model_props(model, facts | {"layout": "letterbox"})
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(pixels: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.asarray(session.run(["logits"], {"pixels": pixels.numpy()})[0]))

    worst = _parity(network, run, shape, "ONNX")
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return worst


def _parity(network: torch.nn.Module, exported: object, shape: tuple[int, int, int], kind: str) -> float:
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for batch in BATCHES:
        pixels = torch.randint(0, 256, (batch, *shape), dtype=torch.uint8, generator=generator)
        with torch.inference_mode():
            expected, found = network(pixels), exported(pixels)  # type: ignore[operator]
        worst = max(worst, float((expected - found).abs().max()) / max(1.0, float(expected.abs().max())))
    if not worst <= PARITY:
        raise ModelError(f"the {kind} export differs from the network by {worst:.2g} in a logit (at most {PARITY})")
    return worst
