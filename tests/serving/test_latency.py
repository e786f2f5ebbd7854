"""The time of one image must not depend on what else the machine does."""

import time

from graft.serving.latency import FEWEST_ROUNDS, MOST_ROUNDS, undisturbed_milliseconds


def test_what_disturbs_most_calls_is_not_counted() -> None:
    calls = 0

    def run(image: bytes) -> None:
        nonlocal calls
        calls += 1
        # The first call opens a model; later two of three are held up by other work.
        time.sleep(0.2 if calls <= 2 else 0.001 if calls % 3 == 0 else 0.05)

    assert 1 <= undisturbed_milliseconds(run, [b"a", b"b"]) < 50


def test_the_typical_image_counts_and_not_the_fastest() -> None:
    seconds = {b"small": 0.0, b"usual": 0.02, b"large": 0.04}
    found = undisturbed_milliseconds(lambda image: time.sleep(seconds[image]), list(seconds))
    assert 20 <= found < 40


def test_a_slow_model_is_asked_few_times_and_a_fast_one_often_enough() -> None:
    asked: list[bytes] = []
    undisturbed_milliseconds(asked.append, [b"a"])
    assert len(asked) == 1 + MOST_ROUNDS
    asked.clear()
    undisturbed_milliseconds(lambda image: (asked.append(image), time.sleep(0.8)), [b"a"])
    assert len(asked) == 1 + FEWEST_ROUNDS
