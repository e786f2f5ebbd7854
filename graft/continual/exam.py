"""The exam: held-out features of every experience, on which each later model is examined without the images.

`exam.safetensors` in the bundle's folder. Validation images choose and calibrate; test images only examine. Which test
answers were right after each experience is kept too: all metrics of forgetting come from that one record.

Features are personal data where the images are: a face cannot be seen in them, but two pictures of one person can be
matched. `train_head.exam=false` keeps none.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from graft.continual.memory import image_hashes
from graft.continual.tensor_file import read_tensors, write_tensors
from graft.core.digest import short_hashes
from graft.core.errors import ModelError
from graft.heads.protocols import Ints
from graft.stats.subsampling import sample
from graft.tasks.task import Bools

EXAM_FILE = "exam.safetensors"
MOST_IMAGES = 2_000
"""Images of each split that are kept of one experience."""
UNASKED = 255
"""In `Exam.answers`: not asked."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Exam:
    """Held-out images of T experiences, as features (m, D)."""

    features: npt.NDArray[np.float32]
    """What the head reads, (m, D)."""
    names: npt.NDArray[np.str_]
    """Class of each image, (m,)."""
    experience: Ints
    """Number of each image's experience from 0, (m,)."""
    test: Bools
    """Which are test images, (m,); the others are validation images."""
    groups: npt.NDArray[np.uint64]
    """Hash of each image's group, (m,)."""
    images: npt.NDArray[np.uint64]
    """Hash of each image, (m,)."""
    answers: npt.NDArray[np.uint8]
    """(T, m): 1 if the model after an experience was right, 0 if it was wrong, `UNASKED` if it was not asked."""

    @classmethod
    def empty(cls, width: int) -> "Exam":
        """Return an exam without images, of no experience."""
        nothing = np.zeros(0, np.uint64)
        return cls(
            np.zeros((0, width), np.float32),
            np.zeros(0, "U1"),
            np.zeros(0, np.int64),
            np.zeros(0, np.bool_),
            nothing,
            nothing,
            np.zeros((0, 0), np.uint8),
        )

    @classmethod
    def of(
        cls, features: Array, names: Sequence[str], ids: Sequence[str], groups: Sequence[str], test: Bools
    ) -> "Exam":
        """Return the exam of a first experience, not yet taken; of many images of a split, a sample of whole groups.

        Args:
            features: what the head reads, (m, D).
            names: class of each image.
            ids: content id of each image.
            groups: name of each image's group.
            test: which are test images, (m,); the others are validation images.
        """
        named, kept = np.asarray(names, dtype=str), []
        _, codes = np.unique(named, return_inverse=True)
        for part in (np.flatnonzero(~test), np.flatnonzero(test)):
            of_part = np.asarray(groups, dtype=object)[part]
            kept.append(part[sample(codes[part].astype(np.int64), of_part, MOST_IMAGES, "exam")])
        rows = np.sort(np.concatenate(kept))
        return cls(
            np.asarray(features[rows], dtype=np.float32),
            named[rows],
            np.zeros(len(rows), np.int64),
            np.asarray(test)[rows],
            short_hashes("group", groups)[rows],
            image_hashes(ids)[rows],
            np.full((0, len(rows)), UNASKED, np.uint8),
        )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.names)

    def knows(self, ids: Sequence[str]) -> Bools:
        """Return which of the images with these content ids (n,) belong to the exam."""
        return np.isin(image_hashes(ids), self.images)

    @property
    def experiences(self) -> int:
        """Number of experiences that a model was examined after."""
        return len(self.answers)

    def extended(self, other: "Exam") -> "Exam":
        """Return the exam with the images of one further experience."""
        unasked = np.full((self.experiences, len(other)), UNASKED, np.uint8)
        joined = {
            name: np.concatenate([getattr(self, name), getattr(other, name)])
            for name in ("features", "names", "test", "groups", "images")
        }
        numbers = np.concatenate([self.experience, np.full(len(other), self.experiences, np.int64)])
        return Exam(experience=numbers, answers=np.concatenate([self.answers, unasked], axis=1), **joined)

    def examined(self, right: Bools) -> "Exam":
        """Return the exam with one more row of answers: which images (m,) the model is right about."""
        row = np.where(self.test, right.astype(np.uint8), UNASKED).astype(np.uint8)
        return replace(self, answers=np.concatenate([self.answers, row[None]]))

    def asked_before(self, right: Bools) -> "Exam":
        """Return the exam with the answers that the model before the newest experience gives on its images (m,)."""
        if not self.experiences:
            return self
        new = self.test & (self.experience == self.experiences)
        answers = self.answers.copy()
        answers[-1, new] = right[new]
        return replace(self, answers=answers)

    def part(self, rows: Bools | Ints) -> "Exam":
        """Return the images that `rows` selects."""
        fields = ("features", "names", "experience", "test", "groups", "images")
        return Exam(answers=self.answers[:, rows], **{name: getattr(self, name)[rows] for name in fields})

    @property
    def validation(self) -> "Exam":
        """The validation images."""
        return self.part(~self.test)

    @property
    def tests(self) -> "Exam":
        """The test images."""
        return self.part(self.test)

    def without(self, ids: Sequence[str]) -> "Exam":
        """Return the exam without the images with these content ids."""
        return self.part(~np.isin(self.images, image_hashes(ids)))

    def save(self, folder: Path) -> None:
        """Write `exam.safetensors` into a bundle's folder, which exists."""
        labels, codes = np.unique(self.names, return_inverse=True)
        arrays: dict[str, Array] = {
            "features": self.features,
            "classes": codes.astype(np.int32),
            "experience": self.experience.astype(np.int32),
            "test": self.test.astype(np.uint8),
            "groups": self.groups,
            "images": self.images,
            "answers": self.answers,
        }
        write_tensors(folder / EXAM_FILE, arrays, {"labels": [str(label) for label in labels]})

    @classmethod
    def load(cls, folder: Path) -> "Exam | None":
        """Read the exam of a bundle; None if no features were kept.

        Raises:
            ModelError: if the file is damaged.
        """
        file = Path(folder) / EXAM_FILE
        if not file.is_file():
            return None
        arrays, facts = read_tensors(file)
        if len(facts["labels"]) == 0 and len(arrays["classes"]):
            raise ModelError(f"{file}: images without classes; train the model again")
        return cls(
            arrays["features"],
            np.array(facts["labels"], dtype=str)[arrays["classes"]] if len(arrays["classes"]) else np.zeros(0, "U1"),
            arrays["experience"].astype(np.int64),
            arrays["test"].astype(np.bool_),
            arrays["groups"],
            arrays["images"],
            arrays["answers"],
        )
