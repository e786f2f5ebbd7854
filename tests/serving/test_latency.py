"""The measured latency must not depend on other load on the machine."""

import time

from graft.serving.latency import MAX_ROUNDS, MIN_ROUNDS, latency_milliseconds


def test_other_load_does_not_count() -> None:
    calls = 0

    def run(image: bytes) -> None:
        nonlocal calls
        calls += 1
        # The first call of each image loads a model; later other work delays two calls of three.
        time.sleep(0.2 if calls <= 2 else 0.001 if calls % 3 == 0 else 0.05)

    assert 1 <= latency_milliseconds(run, [b"a", b"b"]) < 50


def test_the_typical_image_counts_and_not_the_fastest() -> None:
    seconds = {b"small": 0.0, b"usual": 0.02, b"large": 0.04}
    found = latency_milliseconds(lambda image: time.sleep(seconds[image]), list(seconds))
    assert 20 <= found < 40


def test_a_slow_model_runs_few_times_and_a_fast_one_often() -> None:
    asked: list[bytes] = []
    latency_milliseconds(asked.append, [b"a"])
    assert len(asked) == 1 + MAX_ROUNDS
    asked.clear()
    latency_milliseconds(lambda image: (asked.append(image), time.sleep(0.8)), [b"a"])
    assert len(asked) == 1 + MIN_ROUNDS
