"""What a run needs later, prepared while its process would only wait for its steps."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from pipelines.code import step_digest
from pipelines.local.tasks import Start, Task
from pipelines.local.warm_server import FIRST, import_module


class Beforehand:
    """Reads the code of the steps, and imports MLflow, which ends the run, while the last step runs."""

    def __init__(self, steps: Sequence[str], pool: ThreadPoolExecutor) -> None:
        self._last = steps[-1]
        self._pool = pool
        self._digests = {step: pool.submit(step_digest, step) for step in steps}

    def code_digest(self, step: str) -> str:
        """Return what `step_digest` returns."""
        return self._digests[step].result()

    def importing(self, start: Start) -> Start:
        """Return `start`, with the import beside the last step."""

        def start_and_import(task: Task) -> int:
            if task.step == self._last:
                for name in FIRST:
                    self._pool.submit(import_module, name)
            return start(task)

        return start_and_import


@contextmanager
def beforehand(steps: Sequence[str]) -> Iterator[Beforehand]:
    """Prepare for a run of these steps."""
    with ThreadPoolExecutor(1) as pool:
        try:
            yield Beforehand(steps, pool)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
