"""The runtimes of the frozen backbone: torch on CPU or CUDA, OpenVINO, or ONNX Runtime. All compute the same features.

Each backend is checked against torch on a probe batch when it starts; one that differs is not used.
"""

import threading
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from graft.backbones.backbone import Backbone
from graft.backbones.exportable import PROBE_IMAGES, Outputs, exportable, network_outputs, onnx_program, probe_pixels
from graft.backbones.extraction import Forward, folded_copy
from graft.backbones.runtime_choice import Backend
from graft.core.atomic import replacing
from graft.core.cache import kept_if_possible, usable

TOLERANCE = {"openvino": 1e-3, "onnxruntime": 1e-3, "cuda": 3e-2}
"""Largest difference from torch on the CPU, in standard deviations of a tap; CUDA computes in float16."""

Run = Callable[[torch.Tensor], Outputs]


class Runtime(NamedTuple):
    """What computes the features."""

    forward: Forward
    backend: Backend
    """The one that runs, which is not always the one that was asked for."""


class BoundaryRuntime(NamedTuple):
    """What computes the features together with the activation after the last group."""

    run: Run
    backend: Backend
    """The one that runs, which is not always the one that was asked for."""


def make_forward(backbone: Backbone, backend: Backend = "torch", workers: int = 1, kept: Path | None = None) -> Forward:
    """Return the backbone's taps as one function of pixels; see `start_runtime`."""
    return start_runtime(backbone, backend, workers, kept).forward


def start_runtime(
    backbone: Backbone, backend: Backend = "torch", workers: int = 1, kept: Path | None = None
) -> Runtime:
    """Return the backbone's taps as one function of pixels, and the backend that computes it.

    Args:
        backbone: frozen.
        backend: the runtime that is asked for.
        workers: number of threads that will call the function.
        kept: a folder where a converted model may be stored for later runs.

    Returns:
        The runtime; torch, with a warning, if the backend does not compute the same or does not start.
    """
    run, started = _start(backbone, backend, workers, kept, activation=False)
    return Runtime(lambda pixels: run(pixels)[0], started)


def start_boundary_runtime(backbone: Backbone, backend: Backend, workers: int) -> BoundaryRuntime:
    """Return the backbone's taps and its last activation as one function of pixels; otherwise as `start_runtime`."""
    return BoundaryRuntime(*_start(backbone, backend, workers, None, activation=True))


def _start(
    backbone: Backbone, backend: Backend, workers: int, kept: Path | None, *, activation: bool
) -> tuple[Run, Backend]:
    reference = _torch(backbone, activation)
    if backend == "torch":
        return reference, "torch"
    try:
        run = _STARTERS[backend](backbone, workers, kept, activation)
        fault = _difference(backbone, run, reference, TOLERANCE[backend])
    except Exception as error:  # a third-party runtime may fail on a model in any way
        fault = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    if fault is None:
        return run, backend
    warnings.warn(f"{backend} is not used for {backbone.spec.architecture}, torch is: {fault}", stacklevel=3)
    return reference, "torch"


def _difference(backbone: Backbone, run: Run, reference: Run, tolerance: float) -> str | None:
    shape = (PROBE_IMAGES, *backbone.spec.transform.shape)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    expected = reference(pixels)
    singly = [run(pixels[at : at + 1]) for at in range(PROBE_IMAGES)]
    found = tuple(np.concatenate(parts) for parts in zip(*singly, strict=True))
    ends = np.cumsum(backbone.spec.widths)[:-1]
    pairs = [*zip(np.split(expected[0], ends, axis=1), np.split(found[0], ends, axis=1), strict=True)]
    pairs += zip(expected[1:], found[1:], strict=True)
    names = [*backbone.spec.groups, backbone.spec.groups[-1]]
    for group, (part, other) in zip(names, pairs, strict=False):
        error = float(np.abs(part - other).max() / max(float(part.std()), 1e-12))
        if np.isfinite(part).all() and not error <= tolerance:
            return f"features after {group} differ by {error:.2g} standard deviations"
    return None


def _torch(backbone: Backbone, activation: bool) -> Run:
    transform = backbone.spec.transform
    fast = folded_copy(backbone, lambda copy, batch: copy.taps(batch))

    def run(pixels: torch.Tensor) -> Outputs:
        with torch.inference_mode():
            batch = transform.normalise(pixels).contiguous(memory_format=torch.channels_last)
            return tuple(part.numpy() for part in network_outputs(fast, activation, batch))

    return run


def _cuda(backbone: Backbone, workers: int, kept: Path | None, activation: bool) -> Run:
    """Use one stream per thread: while a batch computes, other threads decode the next one and copy it to the GPU."""
    if not torch.cuda.is_available():
        raise RuntimeError("no CUDA device that torch can use")
    transform = backbone.spec.transform
    fast = folded_copy(backbone, lambda copy, batch: copy.taps(batch)).to("cuda")
    local = threading.local()

    def run(pixels: torch.Tensor) -> Outputs:
        if not hasattr(local, "stream"):
            local.stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with torch.inference_mode(), torch.cuda.stream(local.stream), torch.autocast("cuda", dtype=torch.float16):
            on_device = pixels.pin_memory().to("cuda", non_blocking=True)
            batch = transform.normalise(on_device).contiguous(memory_format=torch.channels_last)
            outputs = []
            for part in network_outputs(fast, activation, batch):
                on_host = torch.empty(part.shape, pin_memory=True)
                outputs.append(on_host.copy_(part.float(), non_blocking=True))
            local.stream.synchronize()
            return tuple(part.numpy() for part in outputs)

    return run


@cache
def _openvino_core() -> Any:
    """Return the process's one OpenVINO core.

    Each core installs a signal stack for its thread, and restores the previous one when it is destroyed. If two cores
    are destroyed in the order of their creation, the restored stack no longer exists, and the next Ctrl-C or SIGTERM
    ends the process with a segmentation fault.
    """
    import openvino

    return openvino.Core()


def _openvino(backbone: Backbone, workers: int, kept: Path | None, activation: bool) -> Run:
    import openvino

    core = _openvino_core()
    folder = kept / "openvino" if kept else None
    if folder and usable(folder):
        model = core.read_model(folder / "model.xml")
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing is deprecated in torch, but OpenVINO supports it best
            example = (exportable(backbone, activation), probe_pixels(backbone))
            traced = torch.jit.trace(*example, check_trace=False)  # type: ignore[no-untyped-call]
            shape = openvino.PartialShape([-1, *backbone.spec.transform.shape])
            model = openvino.convert_model(traced, input=[shape])
        if folder:
            with kept_if_possible(folder), replacing(folder) as temporary:
                openvino.save_model(model, temporary / "model.xml", compress_to_fp16=False)
    return _StaticShapes(core, model, workers)


class _StaticShapes:
    """A converted model, compiled for each batch size that is asked for.

    Its kernels are up to a third faster than those of a model that takes any batch.
    """

    def __init__(self, core: Any, model: Any, workers: int) -> None:
        self._core, self._model, self._workers = core, model, workers
        self._compiled: dict[int, Any] = {}
        self._compiling = threading.Lock()
        self._requests = threading.local()

    def __call__(self, pixels: torch.Tensor) -> Outputs:
        """Return the outputs of a batch; one smaller than a size known is padded instead of compiled for."""
        images = len(pixels)
        size = self._size(images)
        if not hasattr(self._requests, "of"):
            self._requests.of = {}
        if size not in self._requests.of:
            self._requests.of[size] = self._compiled[size].create_infer_request()
        request = self._requests.of[size]
        if size > images:
            pixels = torch.cat([pixels, pixels.new_zeros(size - images, *pixels.shape[1:])])
        request.infer({0: pixels.numpy()})
        # The next batch overwrites the request's own buffer.
        return tuple(output.data[:images].copy() for output in request.output_tensors)

    def _size(self, images: int) -> int:
        """Return the compiled size for so many images, compiled now if none is large enough."""
        with self._compiling:
            larger = [size for size in self._compiled if size >= images]
            if not larger:
                self._compiled[images] = self._compile(images)
            return min(larger, default=images)

    def _compile(self, images: int) -> Any:
        self._model.reshape([images, *self._model.input(0).partial_shape[1:]])
        options = {
            "INFERENCE_PRECISION_HINT": "f32",  # its default on some CPUs is bfloat16
            "NUM_STREAMS": str(self._workers),
            "INFERENCE_NUM_THREADS": self._workers,
        }
        return self._core.compile_model(self._model, "CPU", options)


def _onnxruntime(backbone: Backbone, workers: int, kept: Path | None, activation: bool) -> Run:
    import onnxruntime

    folder = kept / "onnx" if kept else None
    if folder and usable(folder):
        content = (folder / "backbone.onnx").read_bytes()
    else:
        content = onnx_program(backbone, activation)
        if folder:
            with kept_if_possible(folder), replacing(folder) as temporary:
                temporary.mkdir()
                (temporary / "backbone.onnx").write_bytes(content)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    return lambda pixels: tuple(session.run(None, {"pixels": pixels.numpy()}))


_STARTERS: dict[str, Callable[[Backbone, int, Path | None, bool], Run]] = {
    "cuda": _cuda,
    "openvino": _openvino,
    "onnxruntime": _onnxruntime,
}
