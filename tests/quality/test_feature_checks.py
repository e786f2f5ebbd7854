"""Problems that features show: copies across splits and labels, shift, and the page about them."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from graft.backbones.feature_store import FeatureSpec, FeatureStore, write_features
from graft.core.errors import DataError
from graft.data.dataset import ImageDataset, write_dataset
from graft.quality.feature_checks import CheckedFeatures, check_features
from graft.reports.feature_page import render, write_review
from tests.support.browser import Browser, browser
from tests.support.encoded import encoded, scene

HOSTILE = "\"'><script>document.title='hit'</script>.png"
N = 120


def made(folder: Path, shifted: bool = False) -> tuple[ImageDataset, FeatureStore]:
    """A data set whose rows 100 to 103 are trimmed copies of 0 to 3, with features that show it.

    100 is in another split than 0, 101 has another label than 1, 102 is in one group with 2,
    and 103 is only a copy.
    """
    pictures = [scene(number, 160, 120) for number in range(N)]
    for copy in (100, 101, 102, 103):
        pictures[copy] = pictures[copy - 100].crop((0, 0, 152, 114))
    contents = [encoded(picture, "PNG") for picture in pictures]
    table = pd.DataFrame(
        {
            "id": [hashlib.sha256(content).hexdigest() for content in contents],
            "path": [HOSTILE if row == 0 else f"{row}.png" for row in range(N)],
            "label": [("ant", "bee")[row % 2] for row in range(N)],
            "split": ["test" if 60 <= row < 101 else "train" for row in range(N)],
            "group": ["2" if row == 102 else str(row) for row in range(N)],
            "domain": "",
            "format": "PNG",
            "mode": "RGB",
            "width": 160,
            "height": 120,
            "bytes": [len(content) for content in contents],
        }
    )
    table.loc[101, "label"] = "ant"
    images = write_dataset(folder / "dataset", table, contents, ("ant", "bee"))
    features = np.random.default_rng(0).normal(size=(N, 256)).astype(np.float32)
    features[100:104] = features[:4] + 0.1
    if shifted:
        features[60:101, :16] += 2
    backbone = {"groups": ["stem", "body", "neck"], "widths": [256, 256, 256]}
    spec = FeatureSpec(
        backbone_content=backbone,
        fingerprint="f",
        operations=1,
        dataset_digest=images.spec.digest,
        classes=("ant", "bee"),
    )
    for tap in write_features(folder / "features", spec, table):
        tap[:] = features
        tap.flush()  # type: ignore[attr-defined]
    return images, FeatureStore.read(folder / "features")


def checked(images: ImageDataset, store: FeatureStore) -> CheckedFeatures:
    return check_features(images, store, similarity=0.92, shift=0.6, seed=0)


def test_copies_become_findings_by_split_and_label(tmp_path: Path) -> None:
    seen = checked(*made(tmp_path))
    found = {finding.kind: finding for finding in seen.findings}
    assert list(found) == ["leakage", "contradiction", "near_duplicate"]
    assert {finding.severity for finding in seen.findings} == {"warn"}
    assert found["leakage"].groups == ((HOSTILE, "100.png"),)
    assert found["contradiction"].groups == (("1.png", "101.png"),)
    assert found["near_duplicate"].groups == (("103.png", "3.png"),)
    assert "1 picture in more than one split, by features" in found["leakage"].message
    assert "give the copies one group" in found["leakage"].remedy
    (shift,) = seen.shifts
    assert (shift.about, shift.between) == ("features", ("train", "test"))
    assert shift.low < 0.55


def test_shift_is_found(tmp_path: Path) -> None:
    found = {finding.kind: finding for finding in checked(*made(tmp_path, shifted=True)).findings}
    assert found["shift"].message.startswith("shift: features of test differ from train: AUROC 1.00 (0.9")


def test_new_images_are_compared_with_an_earlier_version(tmp_path: Path) -> None:
    images, store = made(tmp_path / "now", shifted=True)
    kept = store.table.iloc[:60].reset_index(drop=True)
    for tap in write_features(tmp_path / "before", store.spec, kept):
        tap[:] = store.tap("body")[:60]
        tap.flush()  # type: ignore[attr-defined]
    seen = check_features(images, store, 0.92, 0.6, 0, tmp_path / "before")
    assert [shift.between for shift in seen.shifts] == [("train", "test"), ("before", "now")]
    assert seen.shifts[1].low > 0.6
    spec = store.spec.model_copy(update={"fingerprint": "other"})
    write_features(tmp_path / "other", spec, kept)
    with pytest.raises(DataError, match=r"review_features.reference=.*other: features of another backbone; extract"):
        check_features(images, store, 0.92, 0.6, 0, tmp_path / "other")


def test_features_of_other_images(tmp_path: Path) -> None:
    images, store = made(tmp_path)
    other = FeatureStore(store.path, store.spec, store.table.iloc[::-1])
    with pytest.raises(DataError, match="features of other images than those in"):
        checked(images, other)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("review")
    images, store = made(folder, shifted=True)
    seen = checked(images, store)
    write_review(folder / "review", images, store, seen.findings, seen.shifts)
    kinds = {finding["kind"] for finding in json.loads((folder / "review/findings.json").read_text())}
    assert kinds == {"leakage", "contradiction", "near_duplicate", "shift"}
    with browser(folder / "profile") as chromium:
        chromium.open(folder / "review/review.html")
        yield chromium


def test_the_page_shows_copies_side_by_side(opened: Browser) -> None:
    assert opened.complaints == []
    assert opened.violations() == []
    assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []
    assert opened.run("document.title") == "Data review by features"
    groups = opened.run(
        "[...document.querySelectorAll('.group')].map(g => [...g.querySelectorAll('img')].map(i => i.alt))"
    )
    assert groups[0] == [HOSTILE, "100.png"]
    assert opened.run("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert opened.run("document.querySelectorAll('#shift .card').length") == 1
    for width in (360, 1280):
        opened.screenshot(width, 900)
        assert opened.run("document.documentElement.scrollWidth") <= width


def test_no_findings_are_reported_as_such(tmp_path: Path) -> None:
    images, _ = made(tmp_path)
    assert "No findings in the features" in render(images, (), ())
