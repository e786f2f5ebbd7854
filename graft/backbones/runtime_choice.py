"""Which runtime computes the frozen backbone: the fastest installed one, found without importing any."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from graft.core.errors import ParamsError

Backend = Literal["torch", "cuda", "openvino", "onnxruntime"]
_CONVERTING_PAYS = 5e11  # operations: some 600 images at 0.8 GFLOP; a conversion takes a few seconds


def choose_backend(asked: Literal["auto", "torch", "openvino", "onnxruntime"], operations: float) -> Backend:
    """Return the runtime for the backbone, without importing any.

    Args:
        asked: `auto` takes the fastest installed one, or torch if the work is done before another could start.
        operations: floating-point operations of the complete dataset.

    Raises:
        ParamsError: if the requested one is not installed.
    """
    if asked in ("auto", "torch") and _has_gpu():
        return "cuda"
    if asked == "auto":
        others: tuple[Backend, ...] = ("openvino", "onnxruntime") if operations >= _CONVERTING_PAYS else ()
        return next((name for name in others if _installed(name)), "torch")
    if not _installed(asked):
        raise ParamsError(
            f"extract_features.backend={asked!r}: not installed; pip install 'graft-vision[fast]', or use auto"
        )
    return asked


def _has_gpu() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*"))  # asking torch would import it


def _installed(backend: str) -> bool:
    modules = {"onnxruntime": ("onnxruntime", "onnx")}.get(backend, (backend,))
    return all(find_spec(module) is not None for module in modules)
