"""What the tests of compiled pipelines share."""

import inspect
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def names_alone_of_kfps_callers() -> Iterator[None]:
    """Tell KFP the name of its caller without the source of every frame.

    For each setting of a task KFP takes `inspect.stack()[1][3]`. That searches all loaded modules for every frame: in
    a test process, with its deep stack and thousands of modules, it was two thirds of the time of a compilation.
    """
    from kfp.dsl import pipeline_task

    class Names:
        """Stands for the module `inspect`: the third field of a frame is its function's name."""

        def __getattr__(self, name: str) -> object:
            return getattr(inspect, name)

        @staticmethod
        def stack() -> list[tuple[None, None, None, str]]:
            frame = sys._getframe(1)
            return [(None, None, None, one.f_code.co_name) for one in (frame, frame.f_back) if one]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline_task, "inspect", Names())
        yield
