"""ONNX with 8-bit weights and activations: about a quarter of the size, and what that costs in answers.

Quantised after training: activations by the ranges that they have on calibration images (Jacob et al., CVPR 2018),
weights by output channel (Krishnamoorthi 2018). The output layer stays in float32 and is fitted again to the features
that the 8-bit backbone gives, as to those of any other backbone: that takes back most of the loss.
"""

import logging
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from graft.core.atomic import replacing
from graft.core.errors import DataError, GraftError, ModelError
from graft.data.dataset import ImageDataset
from graft.models.bundle import ModelBundle
from graft.models.classifier import Classifier
from graft.models.export import export_onnx, pixel_network, quiet_exporter
from graft.models.fit_head import refit_head
from graft.models.task_heads import head_columns
from graft.stats.feature_columns import columns_of
from graft.stats.paired_difference import PairedDifference, paired_difference
from graft.stats.subsampling import evenly_spaced

CALIBRATION_IMAGES, JUDGED_IMAGES, BATCH = 256, 2000, 16
QUANTISED = ("Conv", "Gemm", "MatMul")
TIMED = 30
Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
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
        dataset: what the model learnt from: ranges and heads come from its images, the cost from the test images.

    Raises:
        DataError: if the dataset has no training or test images, or other labels than the model.
        ModelError: if the network cannot be quantised.
    """
    if bundle.spec.two_views:
        raise ModelError(
            "a model adapted to another domain looks at an image twice, and is not quantised; export the model it was "
            "adapted from"
        )
    if [one.spec.labels for one in bundle.by_task] != [task.labels for task in dataset.tasks]:
        raise DataError(f"{dataset.path}: its labels are not those of the model; give the dataset it learnt from")
    train, test = dataset.indices("train"), dataset.indices("test")
    if not len(train) or not len(test):
        raise DataError(f"{dataset.path}: 8 bits need training images for the ranges, and test images for their cost")
    # Spaced: classes lie one after the other.
    calibration = train[evenly_spaced(len(train), CALIBRATION_IMAGES)]
    test = test[evenly_spaced(len(test), JUDGED_IMAGES)]
    learnt = np.concatenate([train, dataset.indices("val")]) if bundle.spec.refit else train
    with tempfile.TemporaryDirectory() as work:
        first, again = Path(work) / "first.onnx", Path(work) / "again.onnx"
        quantise(exact, first, _pixels(bundle, dataset, calibration))
        *_, features = _outputs(first, _pixels(bundle, dataset, learnt))
        fitted = _with_heads_fitted(bundle, dataset, learnt, features)
        export_onnx(pixel_network(fitted.all_heads), fitted.spec.labels, again, fitted.labels_by_task)
        with replacing(target) as temporary:
            quantise(again, temporary, _pixels(bundle, dataset, calibration))
    before, after = (_outputs(file, _pixels(bundle, dataset, test))[:-1] for file in (exact, target))
    groups = dataset.table["group"].astype(str).to_numpy()[test]
    parts = zip(bundle.by_task, dataset.tasks, before, after, strict=True)
    return [_cost(part, dataset.of_task(task), test, groups, was, now) for part, task, was, now in parts]


def _with_heads_fitted(bundle: ModelBundle, dataset: ImageDataset, rows: Ints, features: Floats) -> ModelBundle:
    """Return the bundle with every head fitted to these features, (n, D), of the rows that have its labels."""
    bundles = bundle.by_task
    columns = head_columns(bundle.spec.backbone, [one.spec.head for one in bundles])[1] if bundle.further else [None]
    found = []
    for one, task, own in zip(bundles, dataset.tasks, columns, strict=True):
        targets = dataset.of_task(task).targets()[rows]
        known = task.labelled(targets)
        read = features if own is None else columns_of(features, own)
        head = refit_head(one, read[known], targets[known], weighted=bool(one.spec.weighted))
        found.append(replace(one, classifier=Classifier(bundle.backbone, head).eval(), further=()))
    first, *further = found
    return replace(first, spec=bundle.spec, further=tuple(further))


def _cost(
    bundle: ModelBundle, dataset: ImageDataset, test: Ints, groups: npt.NDArray[Any], was: Floats, now: Floats
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
        with quiet_exporter(), _quiet_quantiser():
            quantize_static(
                model,
                str(target),
                Reader(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(QUANTISED),
                nodes_to_exclude=_after_features(model.graph),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                reduce_range=True,  # 7 bits of weights: processors without VNNI overflow with 8
            )
    except GraftError:  # of an image that cannot be read
        raise
    except Exception as error:
        raise ModelError(f"the network cannot be quantised: {str(error).strip().splitlines()[0][:200]}") from error


@contextmanager
def _quiet_quantiser() -> Iterator[None]:
    """Suppress its advice to preprocess the model, which names a page: the exporter has done that."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


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


def _outputs(file: Path, batches: Iterable[Pixels]) -> list[Floats]:
    """Return the logits of every task, (n, its outputs), and last the features, (n, D)."""
    session = _session(file)
    found = [session.run(None, {"pixels": batch}) for batch in batches]
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]
