"""A detector that was trained on COCO is taken over whole, but for its predictors."""

from pathlib import Path

import pytest
import torch
from torchvision.models.detection import maskrcnn_resnet50_fpn

from components.extract_features.step import extract_features
from components.train_head.step import train_head
from components.validate_data.step import validate_data
from graft.core.errors import ModelError
from graft.detectors.coco_start import coco_heads
from graft.detectors.detector_bundle import DetectorBundle
from graft.detectors.photo_maps import PhotoMaps
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.train_head import TrainHeadParams
from graft.params.validate_data import ValidateDataParams
from graft.runs.run_log import SilentLog
from tests.support.drawn_objects import write_coco

LOG = SilentLog()


@pytest.mark.slow
def test_a_detector_of_torchvision_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    theirs = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91).eval()
    torch.save(theirs.state_dict(), tmp_path / "coco.pth")
    write_coco(tmp_path / "raw", 10)
    params = ValidateDataParams.model_validate({"task": "instances", "severity": {"empty_split": "warn"}})
    validate_data(tmp_path / "raw", tmp_path / "dataset", tmp_path / "page", params, LOG)
    chosen = ExtractFeaturesParams(backbone="resnet50", weights=str(tmp_path / "coco.pth"), image_size=64)
    extract_features(tmp_path / "dataset", tmp_path / "features", chosen, LOG)
    monkeypatch.setattr("graft.detectors.fit.epochs_for", lambda _: 1)
    train_head(tmp_path / "features", tmp_path / "head", TrainHeadParams(), LOG)
    bundle = DetectorBundle.load(tmp_path / "head")
    assert bundle.spec.coco

    store, pixels = PhotoMaps.read(tmp_path / "features"), torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    start = coco_heads(store.path)
    assert start is not None
    assert not any("predictor.cls" in name or "mask_fcn_logits" in name for name in start)
    bundle.network.heads.load_state_dict(start, strict=False)
    with torch.inference_mode():
        maps = bundle.network.maps(pixels)
        expected = theirs.backbone(bundle.transform.normalise(pixels))
        found = bundle.network.heads.pyramid({str(level): one for level, one in enumerate(maps)})
    assert list(found) == list(expected)
    for name, one in expected.items():
        assert torch.allclose(found[name], one, atol=1e-4), name


def test_a_file_that_is_another_detector_is_refused(tmp_path: Path) -> None:
    from graft.detectors.coco_start import keep_coco_heads

    torch.save({"backbone.body.conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    params = ExtractFeaturesParams(backbone="resnet50", weights=str(tmp_path / "other.pth"))
    with pytest.raises(ModelError, match=r"not the heads of maskrcnn_resnet50_fpn"):
        keep_coco_heads(params, (), tmp_path)
