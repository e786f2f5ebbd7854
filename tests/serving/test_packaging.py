import base64
import io
import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException

from graft.core.errors import ModelError, RegistryError
from graft.serving.packaging import BUNDLE, NETWORK, PackedPredictor, check_same_predictions, example_images
from graft.serving.server import PROGRAM_FILE, Classifier, load_program
from graft.serving.serving_code import serving_code
from graft.stats.abstention import ABSTENTION_FILE
from tests.support.pictures import picture


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    contents = []
    for number, kind in enumerate(("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")):
        content = io.BytesIO()
        picture(number, number, size=20 + number).save(content, kind)
        contents.append(content.getvalue())
    return contents


@pytest.fixture(scope="module")
def classifier(packed_model: Path) -> Classifier:
    return Classifier.load(packed_model / "artifacts" / NETWORK)


@pytest.fixture(scope="module")
def predictor(packed_model: Path) -> PackedPredictor:
    return PackedPredictor(packed_model)


def test_the_packed_model_predicts_like_the_network(
    predictor: PackedPredictor, classifier: Classifier, images: list[bytes]
) -> None:
    expected = classifier.outputs(images).probabilities
    assert check_same_predictions(predictor, images, expected) < 1e-6
    assert expected.sum(axis=1) == pytest.approx(1)
    assert predictor.labels == ("ant", "bee", "cat")
    assert predictor.latency(images).milliseconds > 0


def test_the_bundle_is_packed_without_out_of_fold_probabilities(packed_model: Path) -> None:
    assert {file.name for file in (packed_model / "artifacts" / BUNDLE).iterdir()} == {"bundle.json", ABSTENTION_FILE}


def test_a_difference_is_an_error(predictor: PackedPredictor, classifier: Classifier, images: list[bytes]) -> None:
    expected = classifier.outputs(images).probabilities + 2e-4
    with pytest.raises(RegistryError, match=r"differs from the bundle by 0\.0002 in a probability \(at most 0\.0001\)"):
        check_same_predictions(predictor, images, expected)


def test_bytes_and_base64_and_data_urls_are_alike(predictor: PackedPredictor, images: list[bytes]) -> None:
    text = base64.b64encode(images[1]).decode()
    table = predictor._model.predict(pd.DataFrame({"image": [text, f"data:image/jpeg;base64,{text}"]}))
    raw = predictor._model.predict(pd.DataFrame({"image": [images[1], images[1]]}))
    pd.testing.assert_frame_equal(table, raw)
    assert list(table.columns) == ["label", "confidence", "probabilities", "set", "ood", "abstain"]
    assert set(table["set"][0]) <= {"ant", "bee", "cat"}
    assert table["abstain"].dtype == bool
    assert (table["ood"] > 0).all()
    assert table["label"][0] == max(table["probabilities"][0], key=table["probabilities"][0].get)
    assert table["confidence"][0] == max(table["probabilities"][0].values())


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ({"image": ["iVBORw0KGgo="]}, "row 0: "),
        ({"image": ["!!"]}, r"row 0: not valid base64"),
        ({"picture": ["abcd"]}, "image"),
    ],
)
def test_a_bad_row_is_named(predictor: PackedPredictor, table: dict[str, list[str]], line: str) -> None:
    with pytest.raises(MlflowException, match=line) as caught:
        predictor._model.predict(pd.DataFrame(table))
    assert caught.value.get_http_status_code() == 400


def test_the_row_of_a_broken_image_is_named(classifier: Classifier, images: list[bytes]) -> None:
    with pytest.raises(Exception, match=r"row 2: "):
        classifier.predict([*images[:2], images[2][:40]])


def test_no_images_no_rows(classifier: Classifier) -> None:
    assert classifier.predict([]).shape == (0, 6)


def test_the_example_is_an_image(packed_model: Path, predictor: PackedPredictor) -> None:
    (example,) = example_images(packed_model)
    assert predictor.probabilities([example]).shape == (1, 3)


def test_the_model_holds_no_pickle(packed_model: Path) -> None:
    names = [path.name for path in packed_model.rglob("*") if path.is_file()]
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".pth", ".bin"))]
    program = packed_model / "artifacts" / NETWORK / PROGRAM_FILE
    with zipfile.ZipFile(program) as archive:
        assert not any(b'use_pickle": true' in archive.read(name) for name in archive.namelist())


def test_a_program_with_a_pickle_is_refused(tmp_path: Path) -> None:
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))
    torch.export.save(program, tmp_path / "program.pt2")  # keeps its example as a pickle
    with pytest.raises(ModelError, match="contains a pickle"):
        load_program(tmp_path / "program.pt2")


@pytest.mark.slow
def test_the_model_runs_without_graft(packed_model: Path, tmp_path: Path, images: list[bytes]) -> None:
    """Graft is installed here: a fake package of that name, which fails on import, shows that it is not used."""
    (tmp_path / "graft").mkdir()
    (tmp_path / "graft" / "__init__.py").write_text("raise ImportError('graft was imported')")
    (tmp_path / "image.bin").write_bytes(images[0])
    code = """
        import sys, warnings
        warnings.simplefilter("ignore")
        import mlflow.pyfunc, pandas as pd
        model = mlflow.pyfunc.load_model(sys.argv[1])
        print(model.predict(pd.DataFrame({"image": [open("image.bin", "rb").read()]}))["label"][0])
        loaded = {"kfp", "timm", "sklearn", "great_expectations", "dvc", "graft"} & set(sys.modules)
        assert not loaded, loaded
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(packed_model)]
    strict = os.environ | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    done = subprocess.run(command, cwd=tmp_path, env=strict, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in {"ant", "bee", "cat"}


def test_the_packed_code_is_what_serving_imports() -> None:
    code = serving_code()
    assert {"graft.serving.server", "graft.imaging.transform", "graft.imaging.decode", "graft.core.errors"} <= set(
        code.sources
    )
    assert not {"graft.serving.registry", "graft.backbones.backbone", "graft.models.bundle"} & set(code.sources)
    pinned = {pin.partition("==")[0] for pin in code.requirements}
    assert {"mlflow", "torch", "pillow", "numpy", "pandas"} <= pinned
    assert code.package == serving_code().package


def test_a_pin_names_no_version_that_only_one_index_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graft.serving.serving_code.version", lambda name: "9.9.9+cpu")
    assert {pin.partition("==")[2] for pin in serving_code().requirements} == {"9.9.9"}


def test_the_packed_code_does_not_import_graft(packed_model: Path) -> None:
    (package,) = (packed_model / "code").iterdir()
    assert package.name == serving_code().package
    for file in package.glob("*.py"):
        assert "from graft " not in file.read_text()
        assert "from graft." not in file.read_text()


def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path: Path, packed_model: Path) -> None:
    folder = tmp_path / "artifacts" / NETWORK
    folder.mkdir(parents=True)
    (folder / "serving.json").write_text((packed_model / "artifacts" / NETWORK / "serving.json").read_text())
    with pytest.raises(RegistryError, match="does not load"):
        PackedPredictor(tmp_path).predict([b""])


def test_probabilities_of_many_images_come_in_order(predictor: PackedPredictor, images: list[bytes]) -> None:
    many = predictor.probabilities(image for _ in range(15) for image in images)
    assert many.shape == (90, 3)
    assert np.allclose(many[:6], many[-6:])
