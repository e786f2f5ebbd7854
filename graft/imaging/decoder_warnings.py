"""What Pillow says about a file in warnings, kept apart for each of the threads that decode."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SAID = threading.local()


@contextmanager
def hearing() -> Iterator[None]:
    """Collect Pillow's warnings for `said` instead of printing them, in this thread and those it starts."""
    with warnings.catch_warnings():
        warnings.filterwarnings("always", module=r"PIL\.")
        show = warnings.showwarning

        def collect(message: Warning | str, category: type[Warning], filename: str, *rest: Any, **more: Any) -> None:
            texts = getattr(_SAID, "texts", None)
            if texts is None or "PIL" not in filename:
                show(message, category, filename, *rest, **more)
            else:
                texts.append(" ".join(str(message).split()))

        warnings.showwarning = collect
        yield


@contextmanager
def said() -> Iterator[list[str]]:
    """Give what Pillow warns about inside the block, in this thread, each text once; nothing outside `hearing`."""
    _SAID.texts = []
    texts: list[str] = []
    try:
        yield texts
    finally:
        texts += dict.fromkeys(_SAID.texts)
        _SAID.texts = None
