"""The cost of a step by number of images: a sum of a few terms, fitted to some runs and checked on others."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import nnls

from graft.heads.kind_selection import MOST_COMPARED
from graft.stats.subsampling import CHOICE_IMAGES

TRAIN = 0.8 * 0.8
"""Share of the images left for training: a fifth goes to test, and a fifth of the rest to validation."""
TERMS: Mapping[str, Callable[[int], float]] = {
    "fixed": lambda images: 1.0,
    "image": lambda images: float(images),
    "compared image": lambda images: min(TRAIN * images, MOST_COMPARED),
    "choosing image": lambda images: min(TRAIN * images, CHOICE_IMAGES),
    "further image": lambda images: max(0.0, TRAIN * images - CHOICE_IMAGES),
}
"""The terms of a cost. Choices use a sample of the training images, and the comparison of head kinds a smaller one:
beyond the sample size only the final fit costs more."""
OF_STEP: Mapping[str, tuple[str, ...]] = {
    "train_head": ("fixed", "compared image", "choosing image", "further image"),
}
SHARED = "extract_features"
"""The step whose images several workers can share."""
TOLERANCE = 0.2
Field = Literal["cpu_seconds", "seconds", "bytes_written"]


@dataclass(frozen=True)
class Cost:
    """The cost of one run of one step."""

    images: int
    cpu_seconds: float
    seconds: float
    bytes_written: int
    peak_bytes: int
    """Peak anonymous memory, without pages of mapped files, which the system may drop."""


@dataclass(frozen=True)
class Model:
    """A cost as a sum of terms."""

    terms: Mapping[str, float]
    """Cost of each of `TERMS`, none of them below zero."""

    @classmethod
    def of(cls, step: str, costs: Sequence[Cost], field: Field) -> "Model":
        """Fit the terms of a step by relative errors, so that small and large datasets have equal weight."""
        names = OF_STEP[step] if step in OF_STEP and field != "bytes_written" else ("fixed", "image")
        values = np.array([getattr(cost, field) for cost in costs], dtype=np.float64)
        design = np.array([[TERMS[name](cost.images) for name in names] for cost in costs])
        found, _ = nnls(design / values[:, None], np.ones(len(values)))
        return cls(dict(zip(names, found.tolist(), strict=True)))

    def __call__(self, images: int, workers: int = 1) -> float:
        """Return the cost for a number of images; workers share the cost per image."""
        return sum(
            value * TERMS[name](images) / (workers if name == "image" else 1) for name, value in self.terms.items()
        )


@dataclass(frozen=True)
class Runs:
    """Runs of one step: those that the model is fitted to, and those that it is checked on."""

    fitted: tuple[Cost, ...]
    checked: tuple[Cost, ...]

    def model(self, step: str, field: Field) -> Model:
        """Return the model of one field."""
        return Model.of(step, self.fitted, field)

    def memory(self) -> dict[int, int]:
        """Return the peak memory in bytes by number of images, the largest of several runs."""
        peaks: dict[int, int] = {}
        for cost in sorted((*self.fitted, *self.checked), key=lambda cost: cost.images):
            peaks[cost.images] = max(cost.peak_bytes, peaks.get(cost.images, 0))
        return peaks

    def bytes_per_image(self, least: int = 4000) -> float:
        """Return how much the peak grows per image once all caches are full.

        This is the slope of a straight line through datasets of `least` images and more.
        """
        peaks = {images: peak for images, peak in self.memory().items() if images >= least}
        if len(peaks) < 2:
            return float("nan")
        return float(np.polyfit([*peaks], [*peaks.values()], 1)[0])


def checks(steps: Mapping[str, Runs], field: Field = "cpu_seconds") -> Iterator[str]:
    """Yield Markdown: per step the cost of its terms, and measured / predicted = ratio for every size to check."""
    sizes = sorted({cost.images for runs in steps.values() for cost in runs.checked})
    heads = [f"{size:,} images: measured / predicted = ratio" for size in sizes]
    yield f"| step | fixed, s, and ms per image | {' | '.join(heads)} |"
    yield "|---" * (2 + len(sizes)) + "|"
    for step, runs in steps.items():
        model = runs.model(step, field)
        told = [_held_against(runs, model, size, field) for size in sizes]
        yield f"| {step} | {' | '.join([_told_terms(model), *told])} |"


def memory(steps: Mapping[str, Runs]) -> Iterator[str]:
    """Yield Markdown: per step the peak memory for every number of images, and the growth per image."""
    sizes = sorted({images for runs in steps.values() for images in runs.memory()})
    yield (
        f"| step | peak memory, MB, at {' / '.join(f'{size:,}' for size in sizes)} images | more per image, kB | "
        "written per image, bytes |"
    )
    yield "|---" * 4 + "|"
    for step, runs in steps.items():
        peaks = runs.memory()
        told = " / ".join(f"{peaks[size] / 2**20:.0f}" if size in peaks else "not run" for size in sizes)
        written = runs.model(step, "bytes_written").terms["image"]
        yield f"| {step} | {told} | {runs.bytes_per_image() / 1000:.1f} | {written:,.0f} |"


def predictions(steps: Mapping[str, Runs], sizes: Sequence[int], workers: Sequence[int]) -> Iterator[str]:
    """Yield Markdown: CPU time per step, wall time by workers, memory and disk; nothing was run."""
    heads = [f"wall time, {count} worker{'s' * (count > 1)}" for count in workers]
    yield f"| images | {' | '.join(steps)} | {' | '.join(heads)} | memory of the largest step | written |"
    yield "|---" * (3 + len(steps) + len(workers)) + "|"
    for size in sizes:
        processor = [told_seconds(runs.model(step, "cpu_seconds")(size)) for step, runs in steps.items()]
        clock = [
            told_seconds(
                sum(runs.model(step, "seconds")(size, count if step == SHARED else 1) for step, runs in steps.items())
            )
            for count in workers
        ]
        peak = max(
            max(runs.memory().values()) + max(0.0, runs.bytes_per_image()) * max(0, size - max(runs.memory()))
            for runs in steps.values()
        )
        written = sum(runs.model(step, "bytes_written")(size) for step, runs in steps.items())
        told = [*processor, *clock, told_bytes(peak), told_bytes(written)]
        yield f"| {size:,} | {' | '.join(told)} |"


def told_seconds(seconds: float) -> str:
    """Return a time in a suitable unit."""
    for unit, size in (("days", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}" if seconds < 10 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def told_bytes(number: float) -> str:
    """Return a number of bytes in a suitable unit."""
    for unit, size in (("TB", 1e12), ("GB", 1e9)):
        if number >= size:
            return f"{number / size:.1f} {unit}" if number < 10 * size else f"{number / size:.0f} {unit}"
    return f"{number / 1e6:.0f} MB"


def _told_terms(model: Model) -> str:
    images = [(name, 1000 * value) for name, value in model.terms.items() if name != "fixed"]
    told = [f"{value:.1f} per {name}" if name != "image" else f"{value:.2f}" for name, value in images]
    return f"{model.terms['fixed']:.1f} + {', '.join(told)}"


def _held_against(runs: Runs, model: Model, size: int, field: Field) -> str:
    measured = [getattr(cost, field) for cost in runs.checked if cost.images == size]
    if not measured:
        return "not run"
    middle, expected = float(np.median(measured)), model(size)
    ratio = middle / expected
    told = f"{ratio:.2f}" if abs(ratio - 1) <= TOLERANCE else f"**{ratio:.2f}**"
    return f"{middle:.1f} / {expected:.1f} = {told}"
