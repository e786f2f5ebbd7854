"""A first look at a data folder: how it is read, what is odd, what a run will do with it and about how long it takes.

All names are read, but only a sample of the images is opened, so ten thousand images take seconds.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graft.core.cpu import available_cores
from graft.data.listing import list_images
from graft.data.records import SPLITS, Listing, Record, printable
from graft.imaging.decoder_warnings import hearing
from graft.params.validate_data import ValidateDataParams
from graft.quality.image_statistics import Examination, examine_all
from graft.quality.inventory import MAX_BYTES
from graft.tasks.columns import task_columns

SAMPLE = 400
# Seconds of a run without fine-tuning, as docs/scale.md measures them on 2 cores: before the first image, for the
# features of an image of 224 pixels, for an image on which heads are compared, chosen or fitted, and for judging one.
_FIXED, _FEATURES, _COMPARED, _CHOOSING, _FITTED, _JUDGED = 30.0, 0.008, 0.024, 0.010, 0.005, 0.002
_COMPARED_IMAGES, _CHOOSING_IMAGES = 2_000, 5_000
_DECODED = 3
"""How often a run decodes an image: to check it, for its features, and to show or judge it."""


@dataclass(frozen=True)
class Diagnosis:
    """What a first look shows."""

    listing: Listing
    sample: tuple[Examination, ...]
    sample_seconds: float
    params: ValidateDataParams

    @property
    def images(self) -> list[Record]:
        """The files that a run would take as images, by name or first bytes."""
        return [record for record in self.listing.records if record.image]

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield what to show: a heading and a line for each thing to know."""
        yield "read as", self.listing.reading or self.listing.layout
        counts = Counter(record.label for record in self.images)
        if counts:
            largest, smallest = counts.most_common(1)[0], counts.most_common()[-1]
            yield "images", f"{len(self.images):,} in {len(counts):,} classes: {_count(largest)} to {_count(smallest)}"
            yield "pictures", self._pictures()
        for text in self._odd(counts):
            yield "odd", text
        yield "a run", self._run(counts)
        yield "time", f"about {_duration(self.seconds())} on {available_cores()} cores, without fine-tuning"

    def seconds(self) -> float:
        """Return about how long a run takes without fine-tuning."""
        number, train = len(self.images), 0.64 * len(self.images)
        decoding = self.sample_seconds / max(1, len(self.sample)) * _DECODED * number
        head = _COMPARED * min(train, _COMPARED_IMAGES) + _CHOOSING * min(train, _CHOOSING_IMAGES)
        head += _FITTED * max(0.0, train - _CHOOSING_IMAGES)
        return _FIXED + decoding + (_FEATURES + _JUDGED) * number * 2 / available_cores() + head

    def _pictures(self) -> str:
        facts = [one.facts for one in self.sample if one.facts]
        if not facts:
            return "none of the sample can be read"
        formats = ", ".join(name for name, _ in Counter(one.format for one in facts).most_common(4))
        width, height = np.median([one.width for one in facts]), np.median([one.height for one in facts])
        return f"{formats}; median {width:.0f} x {height:.0f} pixels (of {len(self.sample):,} opened)"

    def _odd(self, counts: Mapping[str, int]) -> Iterator[str]:
        yield from self.listing.warnings
        for kind, number in Counter(problem.kind for problem in self.listing.problems).most_common():
            first = next(problem for problem in self.listing.problems if problem.kind == kind)
            yield f"{number:,} {kind}: {printable(first.path)} ({first.message}){' ...' if number > 1 else ''}"
        for fault, number in Counter(one.fault for one in self.sample if one.fault).most_common():
            text = next(one.fault_text for one in self.sample if one.fault == fault)
            yield f"{number} of {len(self.sample)} opened files {fault}: {text}"
        said = [one.warning for one in self.sample if one.warning]
        if said:
            yield f"{len(said)} of {len(self.sample)} opened files with a warning of the decoder: {said[0]}"
        few = [label for label, number in counts.items() if number < 3 * self.params.min_per_class]
        if few:
            least = 3 * self.params.min_per_class
            yield f"{len(few)} classes of fewer than {least} images, such as {printable(few[0])}"
        if len(counts) == 1:
            yield "only one class: a run needs two"

    def _run(self, counts: Mapping[str, int]) -> str:
        given = Counter(record.split for record in self.images if record.split)
        if not given:
            share = (1 - self.params.test_fraction) * (1 - self.params.val_fraction)
            return f"draws the splits: about {share * len(self.images):,.0f} images to train, the others to judge"
        text = ", ".join(f"{split} {given[split]:,}" for split in SPLITS if given[split])
        drawn = [split for split in SPLITS if not given[split]]
        return f"keeps the splits ({text})" + (f" and draws {' and '.join(drawn)} from train" if drawn else "")


def diagnose(root: Path, params: ValidateDataParams, sample: int = SAMPLE, listing: Listing | None = None) -> Diagnosis:
    """Look at the folder `root`.

    Args:
        root: the data folder.
        params: as for `validate`.
        sample: how many images are opened, evenly spread over the folder.
        listing: of the folder, if it has been read already.

    Raises:
        DataError: if it can be read in several ways, or in none.
    """
    listing = listing or list_images(root, params.layout, params.label_level, task_columns(params.labels))
    images = [record for record in listing.records if record.image]
    chosen = [
        images[place] for place in np.unique(np.linspace(0, len(images) - 1, min(sample, len(images)), dtype=int))
    ]
    started = time.perf_counter()
    with hearing():
        found = tuple(examine_all(chosen, params.max_pixels, MAX_BYTES, channels=params.channels))
    return Diagnosis(listing, found, time.perf_counter() - started, params)


def _count(label: tuple[str, int]) -> str:
    return f"{printable(label[0])} {label[1]:,}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{10 * round(seconds / 10):.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
