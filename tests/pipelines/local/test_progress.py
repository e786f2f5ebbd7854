"""What a run shows: plain lines without repetition, or a bar with one line for each step."""

import io

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from pipelines.local.decisions import decided
from pipelines.local.progress import Bar, PlainLines

NOISE = [
    "boundary activations: 641/794 images, 126.6/s, 1 s left",
    "train_head: trial of stage blocks.5: epoch 1/4, 1 folds, loss 0.014, held out 0.199",
]
STEPS = ("validate_data", "train_head")


def test_plain_lines_say_each_thing_once() -> None:
    shown: list[str] = []
    lines = PlainLines(shown.append)
    lines.start("train_head", 4, 8)
    for line in ["two heads are equal", *NOISE, "two heads are equal", *NOISE]:
        lines.say(line)
    lines.end("train_head", 4, 8, "done in 3.0 s", "linear head")
    assert shown == ["[4/8] train_head", "      two heads are equal", "[4/8] train_head: done in 3.0 s: linear head"]


def test_long_work_is_told_again_after_a_while() -> None:
    shown: list[str] = []
    lines = PlainLines(shown.append, quiet_seconds=0.0)
    for line in NOISE:
        lines.say(line)
    assert len(shown) == 2


def test_a_bar_shows_one_line_a_step_and_the_time_left() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    columns = (TextColumn("{task.description}"), BarColumn(10), TextColumn("{task.fields[left]}"))
    progress = Progress(*columns, console=console, auto_refresh=False)
    bar = Bar(progress, STEPS, {"validate_data": 10.0, "train_head": 30.0})
    bar.start("validate_data", 1, 2)
    bar.end("validate_data", 1, 2, "done in 9.0 s", "32 images [of] 2 classes")
    bar.start("train_head", 2, 2)
    bar.say("train_head: candidates: 1/2 batches, 3.0/s")
    assert progress.tasks[0].completed == 10.0 + 15.0
    assert progress.tasks[0].fields["left"].startswith("about ")
    assert progress.tasks[0].description == "train_head: candidates: 1/2 batches"
    bar.end("train_head", 2, 2, "failed in 1.0 s", "")
    assert progress.tasks[0].fields["left"] == ""
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "✓ validate_data     32 images [of] 2 classes done in 9.0 s" in text
    assert "✕ train_head        failed in 1.0 s" in text
    assert "candidates" not in text


def test_the_decision_of_a_step_is_one_line() -> None:
    counts = {"test": {"a": 5}, "train": {"a": 20, "b": 10}, "val": {"a": 4}}
    validated = {"counts": counts, "classes": ["a", "b"], "findings": {"blurred": 2}}
    assert decided("validate_data", validated) == "39 images of 2 classes (train 30, val 4, test 5), 2 findings"
    head = {"head": "linear", "taps": ["x", "y"], "depth": "neck", "cv": {"accuracy": 0.957}}
    assert decided("train_head", head) == "linear on 2 groups together, up to neck, 0.957 right in cross-validation"
    stage = {"name": "blocks.5", "kept": False, "reason": "no gain"}
    tuned = {"stages": [stage], "refit": True, "untried": ""}
    assert decided("fine_tune", tuned) == ("1 stage tried, kept none, fitted again to training and validation images")
    assert decided("some_other_step", {}) == ""
