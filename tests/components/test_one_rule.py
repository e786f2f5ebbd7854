"""What is an image for training is one for `predict`, for a folder and for the server, and the others have a reason."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from graft.batch_prediction.folder_prediction import BatchModel, predict_folder
from graft.core.errors import DataError
from graft.models.bundle import ModelBundle
from graft.models.export import pixel_network
from graft.params.validate_data import ValidateDataParams
from graft.quality.validation import validate
from tests.support.encoded import encoded, png, scene
from tests.support.pictures import picture
from tests.support.tiny import bundle_of, small_dataset

JPEG = encoded(scene(1), "JPEG")
FILES: dict[str, bytes] = {
    "no extension": JPEG,
    "another extension.png": encoded(scene(2), "JPEG"),
    "an unknown extension.foto": encoded(scene(3), "PNG"),
    "UPPER.JPEG": encoded(scene(4), "JPEG"),
    "frames.gif": encoded(scene(5), "GIF"),
    "new.avif": encoded(scene(6), "AVIF"),
    "cut.jpg": JPEG[: len(JPEG) // 2],
    "empty.jpg": b"",
    "text.jpg": b"no picture",
    "page.html.jpg": b"<html><body>404</body></html>",
    "layers.psd": b"8BPS" + bytes(60),
    "scan.dcm": bytes(128) + b"DICM" + bytes(60),
    "phone.heic": b"\0\0\0\x18ftypheic" + bytes(60),
    "notes.txt": b"bring milk",
    "bomb.png": png(20_000, 20_000),
}
READ = {"no extension", "another extension.png", "an unknown extension.foto", "UPPER.JPEG", "frames.gif", "new.avif"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("files")
    for name, content in FILES.items():
        (root / "odd").mkdir(exist_ok=True)
        (root / "odd" / name).write_bytes(content)
    (root / "plain").mkdir()
    for number in range(8):
        picture(1, number).save(root / "plain" / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return bundle_of(small_dataset(tmp_path_factory.mktemp("set")))


def in_training(folder: Path, _: ModelBundle, __: Path) -> dict[str, str]:
    images = validate(folder, ValidateDataParams(on_bad_image="drop", min_per_class=1)).inventory.images
    odd = images[images["path"].str.startswith("odd/")]
    return {Path(path).name: text for path, text in zip(odd["path"], odd["fault_text"], strict=True)}


def in_predict(folder: Path, bundle: ModelBundle, _: Path) -> dict[str, str]:
    return _named(bundle.predict([folder / "odd" / name for name in FILES]))


def in_a_folder(folder: Path, bundle: ModelBundle, work: Path) -> dict[str, str]:
    bundle.save(work / "model")
    predict_folder(BatchModel.load(str(work / "model"), work / "load"), folder / "odd", work / "out")
    return _named(pd.read_parquet(work / "out" / "predictions.parquet"))


def in_serving(folder: Path, bundle: ModelBundle, _: Path) -> dict[str, str]:
    network, said = pixel_network(bundle.all_heads), {}
    for name in FILES:
        try:
            with torch.inference_mode():
                network(bundle.transform.pixels((folder / "odd" / name).read_bytes())[None])
            said[name] = ""
        except DataError as error:
            said[name] = str(error)
    return said


def _named(table: pd.DataFrame) -> dict[str, str]:
    return {
        Path(path).name: error if isinstance(error, str) else ""
        for path, error in zip(table["path"], table["error"], strict=True)
    }


@pytest.mark.parametrize("place", [in_training, in_predict, in_a_folder, in_serving])
def test_one_rule_says_what_an_image_is(
    folder: Path, bundle: ModelBundle, tmp_path: Path, place: Callable[[Path, ModelBundle, Path], dict[str, str]]
) -> None:
    said = place(folder, bundle, tmp_path)
    assert said.keys() == FILES.keys()
    assert {name for name, reason in said.items() if not reason} == READ


def test_the_reasons_are_the_same(folder: Path, bundle: ModelBundle, tmp_path: Path) -> None:
    asked = in_predict(folder, bundle, tmp_path)
    assert in_a_folder(folder, bundle, tmp_path) == in_serving(folder, bundle, tmp_path) == asked
    trained = in_training(folder, bundle, tmp_path)
    named = {"cut.jpg", "empty.jpg", "layers.psd", "bomb.png"}
    assert {name: trained[name] for name in named} == {name: asked[name] for name in named}
