"""Counts of requests, answers and times, in the text format that Prometheus reads.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from threading import Lock

import psutil

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histogram of times."""
OTHER = "other"
"""Stands for every path that the server does not have, so that a scan does not make a series for each."""


class Traffic:
    """What a server has done since it started; any thread may count."""

    def __init__(self, name: str, version: int, paths: Iterable[str]) -> None:
        self._model = {"name": name, "version": str(version)}
        self._paths = frozenset(paths)
        self._started = time.time()
        self._lock = Lock()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._times: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}
        self._answers: Counter[str] = Counter()
        self._totals: Counter[str] = Counter()

    def request(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        path = path if path in self._paths else OTHER
        with self._lock:
            self._requests[method, path, status] += 1
            self._times.setdefault(path, [0] * (len(SECONDS) + 1))[bisect_left(SECONDS, seconds)] += 1
            self._seconds[path] = self._seconds.get(path, 0.0) + seconds

    def answers(self, labels: Iterable[str | None], abstained: int) -> None:
        """Count the answers of /predict by their label; None is an image that could not be read."""
        with self._lock:
            for label in labels:
                if label is None:
                    self._totals["unreadable"] += 1
                else:
                    self._answers[label] += 1
            self._totals["abstained"] += abstained

    def correction(self) -> None:
        """Count a correction."""
        with self._lock:
            self._totals["corrections"] += 1

    def text(self) -> str:
        """Return all series."""
        with self._lock:
            return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield from _series("graft_model_info", "gauge", "The served model.", [(self._model, 1)])
        requests = [
            ({"method": method, "path": path, "status": str(status)}, count)
            for (method, path, status), count in sorted(self._requests.items())
        ]
        yield from _series("graft_requests_total", "counter", "Requests by path and status.", requests)
        yield from _head("graft_request_seconds", "histogram", "Time from a request to the end of its answer.")
        for path, counts in sorted(self._times.items()):
            below = 0
            for bound, count in zip((*map(str, SECONDS), "+Inf"), counts, strict=True):
                below += count
                yield _sample("graft_request_seconds_bucket", {"path": path, "le": bound}, below)
            yield _sample("graft_request_seconds_sum", {"path": path}, self._seconds[path])
            yield _sample("graft_request_seconds_count", {"path": path}, below)
        answers = [({"label": label}, count) for label, count in sorted(self._answers.items())]
        yield from _series("graft_answers_total", "counter", "Answers of /predict by label.", answers)
        for name, text in (
            ("abstained", "Answers of /predict on which the model abstains."),
            ("unreadable", "Images in /predict that could not be read."),
            ("corrections", "Corrections that were queued."),
        ):
            yield from _series(f"graft_{name}_total", "counter", text, [({}, self._totals[name])])
        memory = psutil.Process().memory_info().rss
        yield from _series("process_resident_memory_bytes", "gauge", "Resident memory.", [({}, memory)])
        yield from _series("process_start_time_seconds", "gauge", "Start, seconds since 1970.", [({}, self._started)])


def _series(name: str, kind: str, text: str, samples: Sequence[tuple[Mapping[str, str], float]]) -> Iterator[str]:
    yield from _head(name, kind, text)
    for labels, value in samples:
        yield _sample(name, labels, value)


def _head(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{inner}}} {value}" if inner else f"{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
