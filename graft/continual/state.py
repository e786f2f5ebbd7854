"""All that a model keeps of its past: memory, exam and history, three files beside its bundle."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from graft.backbones.feature_store import FeatureStore
from graft.continual.exam import Exam
from graft.continual.history import Experience, History, today
from graft.continual.memory import MEMORY_FILE, WIDEST, Memory
from graft.data.dataset import ImageDataset, LabelledTable
from graft.data.records import SPLITS
from graft.heads.protocols import Ints
from graft.models.bundle import ModelBundle
from graft.tasks.task import Bools

FIRST = "training"
"""Name of the first experience."""


@dataclass(frozen=True)
class ContinualState:
    """What a model keeps of its past."""

    memory: Memory
    exam: Exam | None
    """None: no features of held-out images are kept."""
    history: History

    @classmethod
    def load(cls, folder: Path) -> "ContinualState":
        """Read the state of the bundle in `folder`.

        Raises:
            ModelError: if it has no memory, or a file is damaged.
        """
        return cls(Memory.load(folder), Exam.load(folder), History.load(folder))

    def save(self, folder: Path) -> None:
        """Write the state into a bundle's folder, which exists."""
        self.memory.save(folder)
        if self.exam is not None:
            self.exam.save(folder)
        self.history.save(folder)


@dataclass(frozen=True)
class LabelledFeatures:
    """What a bundle's head reads of labelled images, in the order of a table."""

    features: npt.NDArray[np.float32]
    """(n, D)."""
    names: npt.NDArray[np.str_]
    """Class of each image, (n,)."""
    ids: npt.NDArray[np.object_]
    """Content id of each image, (n,)."""
    groups: npt.NDArray[np.object_]
    """Group of each image, (n,)."""
    split: npt.NDArray[np.object_]
    """Split of each image, (n,)."""

    @classmethod
    def of_table(cls, features: npt.NDArray[np.float32], data: LabelledTable, rows: Ints) -> "LabelledFeatures":
        """Return the features (n, D) of these labelled rows with what the table says of them."""
        table = data.table.iloc[rows]
        names = data.task.names(data.targets()[rows])
        columns = (table[name].astype(str).to_numpy(dtype=object) for name in ("id", "group", "split"))
        return cls(features, np.asarray(names, dtype=str), *columns)

    @classmethod
    def of_store(cls, store: FeatureStore, taps: Sequence[str]) -> "LabelledFeatures":
        """Return the features after these groups of all labelled images of a store."""
        rows = np.sort(np.concatenate([store.labelled(split) for split in SPLITS]))
        return cls.of_table(store.mapped(taps, rows).read(), store, rows)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.names)

    @property
    def test(self) -> Bools:
        """Which are test images, (n,)."""
        return np.asarray(self.split == "test", dtype=np.bool_)

    @property
    def held_out(self) -> Bools:
        """Which are for validation or test, (n,)."""
        return np.asarray(self.split != "train", dtype=np.bool_)

    def part(self, rows: Bools) -> "LabelledFeatures":
        """Return the images that `rows` selects."""
        fields = ("features", "names", "ids", "groups", "split")
        return LabelledFeatures(*(getattr(self, name)[rows] for name in fields))

    @classmethod
    def concatenated(cls, parts: "Sequence[LabelledFeatures]") -> "LabelledFeatures":
        """Return the images of all parts."""
        fields = ("features", "names", "ids", "groups", "split")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))

    def memory(self, fingerprint: str, taps: Sequence[str]) -> Memory:
        """Return the memory of the training and validation images."""
        learnt = self.part(~self.test)
        return Memory.of(learnt.features, learnt.names.tolist(), learnt.ids.tolist(), fingerprint, taps)

    def exam(self) -> Exam:
        """Return the exam of the validation and test images."""
        held = self.part(self.held_out)
        return Exam.of(held.features, held.names.tolist(), held.ids.tolist(), held.groups.tolist(), held.test)

    def experience(self, name: str, digest: str, method: str, known_before: int = 0) -> Experience:
        """Return the record of learning these images today."""
        learnt = self.names[~self.test]
        classes, counts = np.unique(learnt, return_counts=True)
        return Experience(
            name=name,
            learnt_on=today(),
            images=len(learnt),
            test_images=int(self.test.sum()),
            classes={str(label): int(count) for label, count in zip(classes, counts, strict=True)},
            digest=digest,
            method=method,
            known_before=known_before,
        )


def why_no_memory(bundle: ModelBundle) -> str:
    """Return why no memory can be kept of what a bundle learns, as a clause; empty if it can."""
    if bundle.further:
        return "there are several tasks"
    if not bundle.task.exclusive:
        return f"the task {bundle.task.name!r} does not have exactly one label per image"
    if bundle.spec.head.features > WIDEST:
        return f"the head reads {bundle.spec.head.features:,} features, more than {WIDEST:,}"
    return ""


def first_state(bundle: ModelBundle, data: LabelledFeatures, digest: str, *, exam: bool) -> ContinualState:
    """Return the state of a model after its first training.

    Args:
        bundle: the model.
        data: what its head reads of all labelled images.
        digest: of the dataset.
        exam: whether to keep features of held-out images.
    """
    kept = data.exam()
    kept = kept.examined(right_answers(bundle, kept))
    history = History().with_next(data.experience(FIRST, digest, bundle.spec.head.kind))
    memory = data.memory(bundle.backbone.fingerprint(), bundle.spec.head.taps)
    return ContinualState(memory, kept if exam else None, history)


def state_from_cache(bundle: ModelBundle, store: FeatureStore, *, exam: bool) -> ContinualState:
    """Return the first state of a head on frozen features; no image is opened."""
    data = LabelledFeatures.of_store(store, bundle.spec.head.taps)
    return first_state(bundle, data, store.spec.dataset_digest, exam=exam)


def state_of_trained(bundle: ModelBundle, images: ImageDataset, before: ContinualState) -> ContinualState:
    """Return the first state of a model after fine-tuning, given that of its head.

    Where the backbone was trained its features are new, and all images go through it once more.
    """
    if bundle.backbone.fingerprint() == before.memory.fingerprint:
        if before.exam is None:
            return before
        blank = replace(before.exam, answers=before.exam.answers[:0])
        return replace(before, exam=blank.examined(right_answers(bundle, blank)))
    rows = np.sort(np.concatenate([images.labelled(split) for split in SPLITS]))
    reader = images.reader()
    _, features = bundle.logits_and_features((reader[row] for row in rows), "remember tuned features", len(rows))
    data = LabelledFeatures.of_table(features, images, rows)
    return first_state(bundle, data, images.spec.digest, exam=before.exam is not None)


def head_logits(bundle: ModelBundle, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return a bundle's logits (n, C) of features (n, D) that its head reads."""
    with torch.inference_mode():
        logits: npt.NDArray[np.float32] = bundle.classifier.head(torch.from_numpy(features)).numpy()
    return logits


def right_answers(bundle: ModelBundle, exam: Exam) -> Bools:
    """Return which images (m,) of an exam a bundle classifies correctly; none of a class that it does not know."""
    if not len(exam):
        return np.zeros(0, np.bool_)
    answers = head_logits(bundle, exam.features).argmax(axis=1)
    return np.asarray(np.array(bundle.spec.labels, dtype=str)[answers] == exam.names, dtype=np.bool_)


def has_state(folder: Path) -> bool:
    """Return whether the bundle in `folder` has a memory."""
    return (folder / MEMORY_FILE).is_file()
