"""Export of the model to one file without Python code, for any batch size: a `torch.export` program or ONNX.

The exported network takes uint8 pixels and normalises them itself, so that users of the file cannot get that wrong.
"""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from graft.backbones.bn_folding import for_inference
from graft.core.atomic import replacing
from graft.core.errors import ModelError
from graft.imaging.transform import Transform
from graft.models.classifier import Classifier
from graft.models.task_heads import TaskHeads

Outputs = tuple[torch.Tensor, ...]
"""Logits of every task, and last the features."""
Run = Callable[[torch.Tensor], Outputs]

OUTPUTS = ("logits", "features")
OPSET = 23
"""Version of the ONNX operators: the newest that the pinned torch exports and the pinned ONNX Runtime runs."""
PARITY = 1e-4
PARITY_BATCHES = (1, 2, 7, 64)


class FeatureClassifier(nn.Module):
    """A classifier that also returns the features its head reads, for the out-of-distribution score."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x: torch.Tensor) -> Outputs:
        """Return logits (B, C) and features (B, D) of normalised float32 (B, N, S, S)."""
        features = self.classifier.features(x)
        return self.classifier.head(features), features


class TasksClassifier(nn.Module):
    """A classifier with heads of several tasks: the logits of each, and the features that any of them reads."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x: torch.Tensor) -> Outputs:
        """Return the logits of each task (B, its outputs) and features (B, D) of normalised float32 (B, N, S, S)."""
        features = self.classifier.features(x)
        return (*self.classifier.head.each(features), features)


class PixelNetwork(nn.Module):
    """The network to export: uint8 pixels (B, N, S, S) in; logits (B, C) and features (B, D) out, float32.

    Of several tasks it gives the logits of each, in their order, and the features last.
    """

    def __init__(self, network: nn.Module, transform: Transform) -> None:
        super().__init__()
        self.network = network
        self.transform = transform

    def forward(self, pixels: torch.Tensor) -> Outputs:
        """Return logits and features of a batch of pixels."""
        outputs: Outputs = self.network(self.transform.normalise(pixels))
        return outputs


def pixel_network(classifier: Classifier) -> PixelNetwork:
    """Return the classifier ready for export: in eval mode, BatchNorm folded, with its normalisation in front."""
    transform = classifier.backbone.spec.transform
    probe = transform.normalise(torch.zeros(1, *transform.shape, dtype=torch.uint8))
    several = isinstance(classifier.head, TaskHeads)
    folded = for_inference(TasksClassifier(classifier) if several else FeatureClassifier(classifier), probe)
    # torch.export saves tensors completely only if their dimensions are in the default memory order.
    return PixelNetwork(folded.to(memory_format=torch.contiguous_format), transform).eval()


def export_program(network: PixelNetwork, path: Path) -> None:
    """Write the network as a `torch.export` program without pickles.

    Raises:
        ModelError: if it cannot be traced.
    """
    program = _traced(network)
    # The example would be stored as a pickle, and nothing needs it.
    program.example_inputs = None
    with replacing(path) as temporary, temporary.open("wb") as file:
        torch.export.save(program, file)


def export_onnx(
    network: PixelNetwork, labels: Sequence[str], path: Path, tasks: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Write the network as an ONNX file, after checking that it computes the same.

    Args:
        network: the network to export.
        labels: in the order of the logits; stored in the file's metadata, like the transform.
        path: of the `.onnx` file; input `pixels` uint8 (B, N, S, S), outputs `logits` and `features` float32.
        tasks: labels by task, if there are several: then there is an output `<task>.logits` for each.

    Raises:
        ModelError: if the packages of the extra `onnx` are not installed, the network cannot be exported, or the export
            computes something else.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  # torch.onnx imports it, and fails less clearly without
    except ImportError as error:
        raise ModelError(f"{error.name} is not installed; ONNX needs: pip install 'graft-vision[onnx]'") from error
    program = _traced(network)
    outputs = [*(f"{task}.logits" for task in tasks), "features"] if tasks else list(OUTPUTS)
    with quiet_exporter():
        exported = torch.onnx.export(
            program,
            input_names=["pixels"],
            output_names=outputs,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if exported is None:
        raise ModelError("the network cannot be exported to ONNX")
    model = exported.model_proto
    # The exporter notes the source lines, with their paths, of every operation.
    for part in (*model.graph.node, *model.graph.initializer, *model.graph.value_info, model.graph):
        del part.metadata_props[:]
    facts = {"labels": json.dumps(list(labels)), "transform": network.transform.model_dump_json()}
    if tasks:
        facts["tasks"] = json.dumps({task: list(own) for task, own in tasks.items()})
    onnx.helper.set_model_props(model, facts)
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(pixels: torch.Tensor) -> Outputs:
        return tuple(map(torch.from_numpy, session.run(outputs, {"pixels": pixels.numpy()})))

    check_parity(network, run, network.transform.shape, "ONNX")
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def check_parity(network: Run, exported: Run, shape: tuple[int, int, int], kind: str) -> float:
    """Return the largest difference in the logits of an export, over batches of 1, 2, 7 and 64 random images.

    Args:
        network: the original network.
        exported: its export.
        shape: of one image's pixels.
        kind: of export, for the message.

    Raises:
        ModelError: if the difference is more than `PARITY`.
    """
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for batch in PARITY_BATCHES:
        pixels = torch.randint(0, 256, (batch, *shape), dtype=torch.uint8, generator=generator)
        with torch.inference_mode():
            pairs = zip(network(pixels)[:-1], exported(pixels)[:-1], strict=True)
        for expected, found in pairs:
            # Relative to the largest logit: float32 has seven digits.
            scale = max(1.0, float(expected.abs().max()))
            worst = max(worst, float((expected - found).abs().max()) / scale)
    if not worst <= PARITY:
        raise ModelError(f"the {kind} export differs from the network by {worst:.2g} in a logit (at most {PARITY})")
    return worst


def _traced(network: PixelNetwork) -> torch.export.ExportedProgram:
    # Two images: an example of one would fix the batch size at one.
    example = torch.zeros(2, *network.transform.shape, dtype=torch.uint8)
    try:
        with torch.no_grad():
            return torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    except Exception as error:
        raise ModelError(f"the network cannot be exported: {str(error).strip().splitlines()[0]}") from error


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Suppress the exporter's deprecation warnings and progress output."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
