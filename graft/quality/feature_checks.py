"""Problems that features show and files do not: copies that hashes miss, and domain shift.

`review_features` runs these checks. They neither change the data nor stop a run: the kinds of finding are those of
`validate_data`, but always warnings, since features can be wrong where equal bytes cannot.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from graft.backbones.feature_store import FeatureStore
from graft.core.connected import component_labels
from graft.core.cpu import available_cores
from graft.core.errors import DataError
from graft.data.dataset import ImageDataset
from graft.data.records import Split
from graft.quality.dataset_shift import Groups, Shift, classifier_shift, enough
from graft.quality.feature_duplicates import confirm_pairs, find_candidates
from graft.quality.findings import Finding, make_finding
from graft.quality.image_statistics import SIGNATURE_SIDE, examine
from graft.quality.near_duplicates import NearPairs
from graft.quality.perceptual_hashes import Indices, Signatures

_HELD_OUT: tuple[Split, ...] = ("val", "test")
_APART = "give the copies one group in a manifest, so that they stay in one split, or keep only one of them"


@dataclass(frozen=True)
class CheckedFeatures:
    """Copies and shifts that features show."""

    pairs: NearPairs
    """Rows of copies that are not in one group already."""
    shifts: tuple[Shift, ...]
    findings: tuple[Finding, ...]


def check_features(
    images: ImageDataset,
    store: FeatureStore,
    similarity: float,
    shift: float,
    seed: int,
    reference: Path | None = None,
) -> CheckedFeatures:
    """Search for copies and for shift with the features before the last group.

    The last group of a pretrained backbone discards what did not matter for its own classes, such as colour.

    Args:
        images: the dataset.
        store: its features.
        similarity: least correlation of a picture with the part of it that another one shows.
        shift: AUROC between train and a held-out split; if the whole interval is above it, the two differ.
        seed: seed of the forests.
        reference: features of an earlier version of the data; new images are compared with it.

    Raises:
        DataError: if the features are of another dataset, or the reference's are of another backbone.
    """
    if store.table["id"].tolist() != images.table["id"].tolist():
        raise DataError(f"{store.path}: features of other images than those in {images.path}; extract them again")
    features = _compared_features(store)
    pairs = _find_copies(images, features, similarity)
    shifts = (*_split_shifts(store, seed), *_new_image_shifts(store, reference, seed))
    return CheckedFeatures(pairs, shifts, (*copy_findings(images.table, pairs), *shift_findings(shifts, shift)))


def copy_findings(table: pd.DataFrame, pairs: NearPairs) -> list[Finding]:
    """Return the findings for pairs of copies: leakage, contradictions, or plain near-duplicates.

    Args:
        table: rows with `path`, `label` and `split`.
        pairs: positions in `table`.
    """
    split, label = table["split"].to_numpy(), table["label"].to_numpy()
    leaks, contradicts = split[pairs.first] != split[pairs.second], label[pairs.first] != label[pairs.second]
    kinds: Mapping[str, tuple[npt.NDArray[np.bool_], str, str]] = {
        "leakage": (leaks, " in more than one split", _APART),
        "contradiction": (contradicts, " under different labels", ""),
        "near_duplicate": (~leaks & ~contradicts, " more than once", _APART),
    }
    findings = []
    for kind, (which, what, remedy) in kinds.items():
        groups = _groups(table["path"].tolist(), pairs.first[which], pairs.second[which])
        if groups:
            noun = "picture" if len(groups) == 1 else "pictures"
            text = f"{len(groups)} {noun}{what}, by features: cropped, mirrored or changed beyond what hashes find"
            files = sorted(path for group in groups for path in group)
            more = {"remedy": remedy} if remedy else {}
            findings.append(make_finding(kind, "warn", files, text, groups=groups, **more))
    return findings


def shift_findings(shifts: Sequence[Shift], least: float) -> list[Finding]:
    """Return a finding for each shift whose whole interval is above `least`."""
    return [
        make_finding(
            "shift",
            "warn",
            (),
            f"features of {shift.between[1]} differ from {shift.between[0]}: AUROC {shift.auroc:.2f} "
            f"({shift.low:.2f} to {shift.high:.2f}); 0.5 means no difference",
            count=1,
        )
        for shift in shifts
        if shift.low > least
    ]


def _find_copies(images: ImageDataset, features: npt.NDArray[np.float32], similarity: float) -> NearPairs:
    groups = pd.factorize(images.table["group"])[0].astype(np.int64)
    first, second = find_candidates(features, groups)
    rows, places = np.unique(np.concatenate([first, second]), return_inverse=True)
    signatures = _signatures(images, rows)
    found = confirm_pairs(signatures, places[: len(first)], places[len(first) :], similarity)
    return NearPairs(rows[found.first], rows[found.second], found.similarity, found.mirrored)


def _signatures(images: ImageDataset, rows: Indices) -> Signatures:
    """Return the luminance of `rows`, uint8 (m, 32, 32), as in `validate_data`."""
    made = np.zeros((len(rows), SIGNATURE_SIDE, SIGNATURE_SIDE), np.uint8)

    def fill(part: Indices) -> None:
        reader = images.reader()
        for place in part.tolist():
            statistics = examine(reader[int(rows[place])], channels=images.spec.channels).statistics
            if statistics is not None:
                made[place] = np.frombuffer(statistics.signature, np.uint8).reshape(made.shape[1:])

    workers = available_cores()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(fill, np.array_split(np.arange(len(rows)), workers)))
    return made


def _split_shifts(store: FeatureStore, seed: int) -> list[Shift]:
    train = _Compared(store, store.indices("train"))
    held_out = [(split, _Compared(store, store.indices(split))) for split in _HELD_OUT]
    return [
        _shift_between(train, rows, ("train", split), seed)
        for split, rows in held_out
        if enough(train.groups, rows.groups)
    ]


def _new_image_shifts(store: FeatureStore, reference: Path | None, seed: int) -> list[Shift]:
    """Compare the images that are new since an earlier version of the data with that version."""
    if reference is None:
        return []
    earlier = FeatureStore.read(reference)
    if earlier.spec.fingerprint != store.spec.fingerprint:
        raise DataError(
            f"review_features.reference={reference}: features of another backbone; extract both with the same one"
        )
    new = np.flatnonzero(~store.table["id"].isin(earlier.table["id"]).to_numpy())
    before, now = _Compared(earlier, np.arange(len(earlier))), _Compared(store, new)
    return [_shift_between(before, now, ("before", "now"), seed)] if enough(before.groups, now.groups) else []


@dataclass(frozen=True)
class _Compared:
    """One of two sets of images that are compared."""

    store: FeatureStore
    rows: Indices

    @property
    def groups(self) -> Groups:
        return self.store.table["group"].to_numpy(dtype=np.str_)[self.rows]


def _shift_between(first: _Compared, second: _Compared, between: tuple[str, str], seed: int) -> Shift:
    """Compare two sets of images; only the rows that the forest uses are read."""
    end = len(first.rows)

    def read(rows: Indices) -> npt.NDArray[np.float32]:
        one, other = first.rows[rows[rows < end]], second.rows[rows[rows >= end] - end]
        return np.concatenate([_compared_features(first.store)[one], _compared_features(second.store)[other]])

    return classifier_shift(read, (first.groups, second.groups), between, seed, "features")


def _compared_features(store: FeatureStore) -> npt.NDArray[np.float32]:
    """Return the features in which copies and shifts are searched."""
    return store.tap(store.taps[-2 if len(store.taps) > 1 else -1])


def _groups(paths: Sequence[str], first: Indices, second: Indices) -> list[tuple[str, ...]]:
    """Return groups of paths that are connected by pairs, each group sorted."""
    tied: dict[int, list[str]] = {}
    roots = component_labels(len(paths), first, second)
    for row in np.unique(np.concatenate([first, second])).tolist():
        tied.setdefault(int(roots[row]), []).append(paths[row])
    return sorted(tuple(sorted(group)) for group in tied.values())
