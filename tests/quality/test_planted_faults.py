"""Precision and recall: a known number of faults planted into real photos, and clean sets that raise no finding."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score

from graft.imaging.decode import decode
from graft.params.review_features import ReviewFeaturesParams
from graft.params.validate_data import ValidateDataParams
from graft.quality.feature_duplicates import confirm_pairs, find_candidates
from graft.quality.image_statistics import examine
from graft.quality.inventory import Inventory, take_inventory
from graft.quality.label_errors import label_error_score
from graft.quality.shortcut_features import find_shortcut
from graft.quality.validation import validate
from tests.support.encoded import encoded, png
from tests.support.tasks import of_classes

Planted = Callable[[Image.Image], bytes]
PARAMS = ValidateDataParams()


def trimmed(image: Image.Image) -> bytes:
    return encoded(image.crop((0, 0, int(image.width * 0.95), int(image.height * 0.95))), "JPEG", quality=85)


def rotated(image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(image.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=90, exif=exif)


# how a copy is made, and the least fraction of the copies that must be found
PLANTED = 50
COPIES: dict[str, tuple[Planted, float]] = {
    "re-encoded": (lambda image: encoded(image, "JPEG", quality=40), 0.98),
    "as WebP": (lambda image: encoded(image, "WEBP", quality=50), 0.98),
    "half the size": (lambda image: encoded(image.resize((image.width // 2, image.height // 2)), "JPEG"), 0.98),
    "squared": (lambda image: encoded(image.resize((224, 224)), "JPEG"), 0.98),
    "rotated by EXIF": (rotated, 0.98),
    "grey": (lambda image: encoded(image.convert("L"), "JPEG"), 0.98),
    "darkened": (lambda image: encoded(image.point(lambda value: int(value * 0.8)), "JPEG"), 0.98),
    "brightened": (lambda image: encoded(image.point(lambda value: min(255, value + 40)), "JPEG"), 0.98),
    "mirrored": (lambda image: encoded(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "JPEG"), 0.98),
    "trimmed by 5 %": (trimmed, 0.95),
    "turned to the right": (lambda image: encoded(image.transpose(Image.Transpose.ROTATE_270), "JPEG"), 0.96),
    "turned to the left": (lambda image: encoded(image.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=60), 0.96),
    "upside down": (lambda image: encoded(image.transpose(Image.Transpose.ROTATE_180), "WEBP"), 0.96),
    "mirrored upside down": (
        lambda image: encoded(image.transpose(Image.Transpose.FLIP_TOP_BOTTOM), "JPEG", quality=70),
        0.96,
    ),
    "turned and mirrored": (lambda image: encoded(image.transpose(Image.Transpose.TRANSPOSE), "JPEG"), 0.96),
    "turned, mirrored, small": (
        lambda image: encoded(image.transpose(Image.Transpose.TRANSVERSE).reduce(2), "PNG"),
        0.96,
    ),
    "turned and grey": (lambda image: encoded(image.transpose(Image.Transpose.ROTATE_90).convert("L"), "PNG"), 0.96),
}


@pytest.fixture(scope="module")
def flowers(shared: Path) -> list[Path]:
    """Every second photo of each class: 265 files without copies of each other."""
    files = sorted((shared / "data/flower_photos_mini").glob("*/*/*.jpg"))[::2]
    known_copies = (
        "10994032453",
        "10993818044",
        "13342823005",
        "12916441224",
        "15066430311",
        "15072973261",
        "12406418663",
        "14925398301",  # what only features tell
    )
    return [file for file in files if not file.name.startswith(known_copies)]


@pytest.fixture(scope="module")
def copied(flowers: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Inventory, pd.DataFrame]:
    """Return the photos with fifty copies of each kind among them, and each copy's original and kind."""
    root = tmp_path_factory.mktemp("copied")
    generator = np.random.default_rng(0)
    made = []
    for file in flowers:
        place = root / file.parent.name / file.name
        place.parent.mkdir(exist_ok=True)
        shutil.copy(file, place)
    for kind, (copy, _) in COPIES.items():
        for number in generator.choice(len(flowers), PLANTED, replace=False):
            original = flowers[number]
            place = root / original.parent.name / f"{kind.replace(' ', '-').replace('%', '')}-{original.stem}.img"
            place.write_bytes(copy(Image.fromarray(decode(original.read_bytes()))))
            made.append((kind, f"{original.parent.name}/{original.name}", place.relative_to(root).as_posix()))
    return take_inventory(root, PARAMS), pd.DataFrame(made, columns=["kind", "original", "copy"])


@pytest.mark.parametrize("kind", COPIES)
def test_copies_are_found(copied: tuple[Inventory, pd.DataFrame], kind: str) -> None:
    inventory, made = copied
    pictures = inventory.images.set_index("path")["picture"]
    chosen = made[made["kind"] == kind]
    found = pictures[chosen["copy"]].to_numpy() == pictures[chosen["original"]].to_numpy()
    assert found.mean() >= COPIES[kind][1], chosen["copy"][~found].tolist()


def test_pictures_that_are_not_copies_are_not_paired(copied: tuple[Inventory, pd.DataFrame]) -> None:
    inventory, made = copied
    source = dict(zip(made["copy"], made["original"], strict=True))
    paths = inventory.images["path"].map(lambda path: source.get(path, path)).to_numpy()
    wrong = int(np.sum(paths[inventory.near.first] != paths[inventory.near.second]))
    assert len(inventory.near) > 500
    assert wrong / len(inventory.near) <= 1e-3


def test_grey_photos_among_coloured_ones(copied: tuple[Inventory, pd.DataFrame]) -> None:
    inventory, made = copied
    found = set(inventory.images.loc[inventory.images["odd_grey"], "path"])
    grey = set(made.loc[made["kind"].isin(["grey", "turned and grey"]), "copy"])
    assert grey <= found
    assert len(found) <= len(grey) + 12  # one flower is grey itself, and so are its copies


def test_no_copies_in_clean_sets(shared: Path, root: Path) -> None:
    inventory = take_inventory(shared / "data/hymenoptera", PARAMS)
    assert len(inventory.near) == 0
    assert (inventory.images["exact_copies"] == 0).all()
    assert not inventory.images["leaks"].any()
    assert inventory.images.loc[inventory.images["mode"] == "P", "format"].tolist() == ["GIF"]
    assert (inventory.images["fault"] == "").all()


@pytest.mark.parametrize(
    ("folder", "raised"),
    [
        # a GIF that says "image not found", and embedded Adobe RGB
        ("hymenoptera", {"odd_mode", "colour_profile", "grey"}),
        # two copies of one house
        ("pacs_mini/photo", {"near_duplicate", "grey"}),
        # three drawings of a few lines
        ("pacs_mini/sketch", {"low_information", "shortcut"}),
    ],
)
def test_clean_sets_raise_nothing_else(shared: Path, folder: str, raised: set[str]) -> None:
    found = validate(shared / "data" / folder, PARAMS)
    assert found.verdict != "fail"
    assert {finding.kind for finding in found.findings} - {"small_test"} <= raised, [
        finding.message for finding in found.findings
    ]


def test_the_real_copies_of_the_flowers(shared: Path) -> None:
    images = take_inventory(shared / "data/flower_photos_mini", PARAMS).images
    assert (images["exact_copies"] == 1).sum() == 4
    assert images.loc[images["exact_copies"] == 1, "id"].nunique() == 2
    # one photo saved twice, and one that went through two filters
    assert images.loc[images["leaks"], "path"].tolist() == [
        "train/daisy/10466290366_cc72e33532.jpg",
        "train/roses/12407768513_3440238148_n.jpg",
        "val/daisy/10994032453_ac7f8d9e2e.jpg",
        "val/roses/12406418663_af20dc225f_n.jpg",
    ]


def test_every_leak_and_contradiction_and_bad_file(flowers: list[Path], tmp_path: Path) -> None:
    for number, file in enumerate(flowers):
        place = tmp_path / ("test" if number % 5 == 0 else "train") / file.parent.name / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    train, test = (sorted((tmp_path / split).glob("*/*")) for split in ("train", "test"))
    leaks = set()
    for file in test[:25]:
        copy = tmp_path / "train" / file.parent.name / f"leak-{file.name}"
        shutil.copy(file, copy)
        leaks |= {copy.relative_to(tmp_path).as_posix(), file.relative_to(tmp_path).as_posix()}
    contradictions = set()
    for file in train[:10]:
        other = tmp_path / "train" / ("tulips" if file.parent.name != "tulips" else "roses") / f"other-{file.name}"
        shutil.copy(file, other)
        contradictions |= {other.relative_to(tmp_path).as_posix(), file.relative_to(tmp_path).as_posix()}
    bad = {
        "cut.jpg": "truncated",
        "bomb.png": "decompression_bomb",
        "empty.jpg": "empty_file",
        "text.jpg": "undecodable",
    }
    content = flowers[0].read_bytes()
    contents = (content[: len(content) // 2], png(60_000, 60_000), b"", b"a text")
    for (name, _), written in zip(bad.items(), contents, strict=True):
        (tmp_path / "train/roses" / name).write_bytes(written)
    images = take_inventory(tmp_path, PARAMS).images
    assert set(images.loc[images["leaks"], "path"]) == leaks
    assert set(images.loc[images["contradicts"], "path"]) == contradictions
    faults = images[images["fault"] != ""]
    assert dict(zip(faults["path"], faults["fault"], strict=True)) == {
        f"train/roses/{name}": kind for name, kind in bad.items()
    }


@pytest.mark.parametrize("planted", ["compression", "frame", "nothing"])
def test_a_shortcut_is_found_and_none_where_there_is_none(flowers: list[Path], tmp_path: Path, planted: str) -> None:
    for file in flowers[::2]:
        image = Image.fromarray(decode(file.read_bytes())).resize((160, 120))
        quality = 80
        if file.parent.name == "roses":
            if planted == "compression":
                quality = 40
            elif planted == "frame":
                image = image.crop((-8, -8, 168, 128)).resize((160, 120))
        place = tmp_path / file.parent.name / file.name
        place.parent.mkdir(exist_ok=True)
        image.save(place, quality=quality)
    found = find_shortcut(take_inventory(tmp_path, PARAMS).kept, seed=0)
    assert found is not None
    roses_alone = found.accuracy - found.chance
    if planted == "nothing":
        assert found.above_chance < 0.15
    else:
        assert roses_alone > 0.12, found


@pytest.fixture(scope="module")
def features(shared: Path) -> Callable[[list[bytes]], dict[str, np.ndarray]]:
    """Return the features of pictures after every group of the default backbone."""
    import torch

    from graft.backbones.backbone import build_backbone

    backbone = build_backbone("tf_efficientnet_lite0", "default", image_size=224).eval()

    def extract(contents: list[bytes]) -> dict[str, np.ndarray]:
        taps = []
        with torch.inference_mode():
            for start in range(0, len(contents), 25):
                pixels = torch.stack([backbone.spec.transform.pixels(one) for one in contents[start : start + 25]])
                taps.append([tap.numpy() for tap in backbone.taps(backbone.spec.transform.normalise(pixels))])
        return {
            name: np.concatenate(tap) for name, tap in zip(backbone.spec.groups, zip(*taps, strict=True), strict=True)
        }

    return extract


@pytest.mark.slow
def test_features_find_the_copies_that_hashes_miss(
    flowers: list[Path], features: Callable[[list[bytes]], dict[str, np.ndarray]]
) -> None:
    kinds: dict[str, Planted] = {
        "trimmed": trimmed,
        "trimmed and mirrored": lambda image: trimmed(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        "cropped to 80 %": lambda image: encoded(image.resize(image.size, box=_middle(image, 0.8)), "JPEG"),
        "mirrored": COPIES["mirrored"][0],
        "brightened": COPIES["brightened"][0],
    }
    generator = np.random.default_rng(1)
    contents = [file.read_bytes() for file in flowers]
    made = [(kind, number) for kind in kinds for number in generator.choice(len(flowers), 20, replace=False).tolist()]
    contents += [kinds[kind](Image.fromarray(decode(contents[number]))) for kind, number in made]
    vectors = list(features(contents).values())[-2]
    statistics = [examine(content).statistics for content in contents]
    signatures = np.stack(
        [np.frombuffer(one.signature, np.uint8).reshape(32, 32) for one in statistics if one is not None]
    )
    pairs = confirm_pairs(
        signatures, *find_candidates(vectors, np.arange(len(contents))), ReviewFeaturesParams().thresholds.similarity
    )
    found = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    hits = pd.Series([(number, len(flowers) + row) in found for row, (_, number) in enumerate(made)])
    recall = hits.groupby([kind for kind, _ in made]).mean()
    assert recall.min() >= 0.9, recall
    assert hits.mean() >= 0.95, recall
    source = np.array([*range(len(flowers)), *(number for _, number in made)])
    wrong = source[pairs.first] != source[pairs.second]
    assert not wrong.any(), list(zip(source[pairs.first][wrong], source[pairs.second][wrong], strict=True))


def _middle(image: Image.Image, part: float) -> tuple[float, float, float, float]:
    left, top = (1 - part) / 2 * image.width, (1 - part) / 2 * image.height
    return left, top, image.width - left, image.height - top


@pytest.mark.slow
def test_swapped_labels_rank_first(shared: Path, features: Callable[[list[bytes]], dict[str, np.ndarray]]) -> None:
    from graft.heads.cross_validation import cross_validate, make_folds

    files = sorted((shared / "data/flower_photos_mini").glob("*/*/*.jpg"))
    vectors = list(features([file.read_bytes() for file in files]).values())[-1]
    _, truth = np.unique([file.parent.name for file in files], return_inverse=True)
    paths = [str(file) for file in files]
    for share, worst, mean in ((0.1, 0.75, 0.8), (0.05, 0.65, 0.7)):
        precisions = []
        for seed in range(3):
            generator = np.random.default_rng(seed)
            swapped = np.zeros(len(truth), bool)
            swapped[generator.choice(len(truth), round(share * len(truth)), replace=False)] = True
            given = np.where(swapped, (truth + generator.integers(1, 5, len(truth))) % 5, truth)
            probed = cross_validate(vectors, given, of_classes(5), make_folds(given, paths, 3, seed=0))
            scores = label_error_score(given, probed.probabilities)
            precisions.append(average_precision_score(swapped, scores))
        assert min(precisions) >= worst, precisions
        assert np.mean(precisions) >= mean, precisions
