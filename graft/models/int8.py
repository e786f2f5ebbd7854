"""ONNX with 8-bit weights and activations: about a quarter of the size, and what that costs in answers.

Quantised after training: activations by the ranges that they have on calibration images (Jacob et al., CVPR 2018),
weights by output channel (Krishnamoorthi 2018). What reads the features, the output layer, stays in float32: it is
small, and every answer goes through it.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from graft.core.atomic import replacing
from graft.core.errors import DataError, ModelError
from graft.data.dataset import ImageDataset
from graft.models.bundle import ModelBundle
from graft.models.export import quiet_exporter
from graft.stats.paired_difference import PairedDifference, paired_difference

CALIBRATION_IMAGES, JUDGED_IMAGES, BATCH = 256, 2000, 16
QUANTISED = ("Conv", "Gemm", "MatMul")
TIMED = 30
Pixels = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Int8Cost:
    """What 8 bits cost one task, on test images that were not used to choose the ranges."""

    task: str
    images: int
    correct: tuple[int, int]
    """Images answered right with float32, and with 8 bits."""
    agreeing: int
    """Images with the same answer from both."""
    log_loss: PairedDifference
    """Mean log loss of float32 less that of 8 bits: below zero where 8 bits are worse."""

    def __str__(self) -> str:
        """Return it in one line."""
        before, after = (100 * correct / self.images for correct in self.correct)
        return (
            f"{self.task}: {after:.1f} % of {self.images} test images right for {before:.1f} % in float32, "
            f"{self.images - self.agreeing} answers differ, log loss {-self.log_loss.gain:+.3f}"
        )


def export_int8(exact: Path, target: Path, bundle: ModelBundle, dataset: ImageDataset) -> list[Int8Cost]:
    """Write an ONNX file with 8-bit weights and activations, and return what that costs each task.

    Args:
        exact: what `export_onnx` wrote.
        target: the file to write; it has the same input and outputs.
        bundle: the model.
        dataset: what the model learnt from: ranges come from training images, the cost from test images.

    Raises:
        DataError: if the dataset has no training or test images, or other labels than the model.
        ModelError: if the network cannot be quantised.
    """
    for known, asked in zip(bundle.by_task, dataset.tasks, strict=False):
        if tuple(known.spec.labels) != tuple(asked.labels):
            raise DataError(f"{dataset.path}: its labels are not those of the model; give the dataset it learnt from")
    train = _some(dataset.indices("train"), CALIBRATION_IMAGES)
    test = _some(dataset.indices("test"), JUDGED_IMAGES)
    if not len(train) or not len(test):
        raise DataError(f"{dataset.path}: 8 bits need training images for the ranges, and test images for their cost")
    with replacing(target) as temporary:
        quantise(exact, temporary, _pixels(bundle, dataset, train))
    before, after = (_answers(file, _pixels(bundle, dataset, test)) for file in (exact, target))
    groups = dataset.table["group"].astype(str).to_numpy()[test]
    parts = zip(bundle.by_task, dataset.tasks, before, after, strict=True)
    return [_cost(part, dataset.of_task(task), test, groups, was, now) for part, task, was, now in parts]


def _cost(
    bundle: ModelBundle, dataset: ImageDataset, test: Ints, groups: npt.NDArray[Any], was: Logits, now: Logits
) -> Int8Cost:
    task, targets = dataset.task, dataset.targets()[test]
    known = task.labelled(targets)
    before, after = (bundle.probabilities(logits[known]) for logits in (was, now))
    losses = [task.log_losses(values, targets[known]) for values in (before, after)]
    return Int8Cost(
        task.name,
        int(known.sum()),
        (int(task.correct(before, targets[known]).sum()), int(task.correct(after, targets[known]).sum())),
        int((bundle.task.answers(before).chosen == bundle.task.answers(after).chosen).sum()),
        paired_difference(losses[0], losses[1], groups[known]),
    )


def quantise(exact: Path, target: Path, pixels: Iterable[Pixels]) -> None:
    """Write a copy of an ONNX network of uint8 pixels (B, N, S, S) whose convolutions and products are in 8 bits.

    Raises:
        ModelError: if ONNX Runtime cannot quantise it.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter(pixels)

        def get_next(self) -> dict[str, Pixels] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"pixels": batch}

    model = onnx.load(str(exact))
    try:
        with quiet_exporter():
            quantize_static(
                model,
                str(target),
                Reader(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(QUANTISED),
                nodes_to_exclude=_after_features(model.graph),
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
            )
    except Exception as error:
        raise ModelError(f"the network cannot be quantised: {str(error).strip().splitlines()[0][:200]}") from error


def milliseconds(file: Path, shape: Sequence[int]) -> float:
    """Return the median time for one image on one thread."""
    session = _session(file)
    pixels = np.zeros((1, *shape), np.uint8)
    times = []
    for _ in range(TIMED):
        began = time.perf_counter()
        session.run(None, {"pixels": pixels})
        times.append(time.perf_counter() - began)
    return 1000 * float(np.median(times))


def _after_features(graph: Any) -> list[str]:
    """Return the names of the nodes that read the features, and of all that follow them."""
    reached, found = {"features"}, []
    for node in graph.node:  # sorted: a node comes after those it reads
        if reached & set(node.input):
            reached |= set(node.output)
            found.append(node.name)
    return found


def _some(rows: Ints, most: int) -> Ints:
    """Return at most `most` rows, evenly spaced: classes lie one after the other."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]


def _pixels(bundle: ModelBundle, dataset: ImageDataset, rows: Ints) -> Iterator[Pixels]:
    reader = dataset.reader()
    for start in range(0, len(rows), BATCH):
        yield np.stack([bundle.transform.pixels(reader[int(row)]).numpy() for row in rows[start : start + BATCH]])


def _session(file: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _answers(file: Path, batches: Iterable[Pixels]) -> list[Logits]:
    """Return the logits of every task, (n, its outputs)."""
    session = _session(file)
    found = [session.run(None, {"pixels": batch})[:-1] for batch in batches]
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]
