"""What the checks cost: at most 3 % of the CPU time of a run."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.evaluate.step import evaluate
from components.extract_features.step import extract_features
from components.train_head.step import train_head
from graft.core import checksums
from graft.data import arrow_shards
from graft.params.evaluate import EvaluateParams
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.train_head import TrainHeadParams
from tests.faults.conftest import Count
from tests.support.finished_run import SIDE, FinishedRun

MOST = 0.03


def test_integrity_costs_at_most_three_percent(
    finished_run: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: Count, store: Path
) -> None:
    """The steps read each other's folders in one process here, so what is known from an earlier step is forgotten."""
    spent = 0.0

    def timed(plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            nonlocal spent
            began = time.thread_time()
            try:
                return plain(*args)
            finally:
                spent += time.thread_time() - began

        return call

    class TimedHashes:
        sha256 = staticmethod(timed(hashlib.sha256))

    monkeypatch.setattr(checksums, "_digest", timed(checksums._digest))
    monkeypatch.setattr(checksums, "read_checksums", timed(checksums.read_checksums))
    monkeypatch.setattr(arrow_shards, "hashlib", TimedHashes)
    monkeypatch.setenv("GRAFT_CACHE", "off")
    backbone = ExtractFeaturesParams(backbone="mobilenet_v3_small", weights="none", image_size=SIDE)
    quick = EvaluateParams(bootstrap=100, random_init=False, learning_curve=False, explain=False)
    features, head, numbers = tmp_path / "features", tmp_path / "head", tmp_path / "metrics.json"
    sections = [section.model_dump() for section in (backbone, TrainHeadParams(head="linear"), quick)]
    began = time.process_time()
    checksums._known.clear()
    extract_features.run(params=sections[0], metrics=numbers, dataset=finished_run.dataset, features=features)
    checksums._known.clear()
    train_head.run(params=sections[1], metrics=numbers, features=features, head=head)
    checksums._known.clear()
    evaluate.run(
        params=sections[2], metrics=numbers, dataset=finished_run.dataset, features=features, head=head, model=head,
        evaluation=tmp_path / "evaluation",
    )  # fmt: skip
    share = spent / (time.process_time() - began)
    print(f"integrity: {100 * share:.2f} % of the CPU time of three steps ({1000 * spent:.0f} ms)")
    count("the cost of integrity checks, at most 3 % of a run", 1, int(share <= MOST))
