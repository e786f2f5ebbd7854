"""backbone: auto takes the better of two, and the cheaper of equals."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graft.backbones.shards import ShardParams, extract_part
from graft.core.errors import ModelError, ParamsError
from graft.data.dataset import ImageDataset
from graft.heads.backbone_selection import choose_backbone
from graft.runs.params import ExtractFeaturesParams

SMALL, LARGE = "mobilenet_v3_small", "resnet18"


def _png(number: int, contrast: float) -> bytes:
    """Horizontal stripes for an ant, vertical ones for a bee, in noise."""
    generator = np.random.default_rng(number)
    pixels = generator.normal(128, 25, (40, 48, 3))
    stripes = contrast * (np.arange(48) // 4 % 2)
    pixels += stripes[None, :, None] if number % 2 else stripes[:40, None, None]
    content = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(content, "PNG")
    return content.getvalue()


@pytest.fixture
def dataset(image_dataset: Callable[..., Path]) -> ImageDataset:
    return ImageDataset.read(image_dataset([_png(number, 60.0) for number in range(96)]))


def _params(*candidates: str, **changes: object) -> ExtractFeaturesParams:
    return ExtractFeaturesParams(
        backbone="auto", candidates=candidates, weights="none", image_size=64, backend="torch", **changes
    )


def test_the_cheaper_of_equivalent_backbones_is_taken(dataset: ImageDataset) -> None:
    chosen, found = choose_backbone(dataset, _params(LARGE, SMALL))
    assert {candidate.backbone for candidate in found} == {SMALL, LARGE}
    by_name = {candidate.backbone: candidate for candidate in found}
    assert by_name[SMALL].operations < by_name[LARGE].operations
    assert chosen.backbone == found[0].backbone
    assert chosen.weights == "none"
    assert all(candidate.low <= candidate.accuracy <= candidate.high for candidate in found)
    again, _ = choose_backbone(dataset, _params(SMALL, LARGE))
    assert again.backbone == chosen.backbone, "the order in which they are named does not matter"


def test_weights_may_be_named_with_a_candidate(dataset: ImageDataset) -> None:
    name = "tf_efficientnet_lite0"
    chosen, found = choose_backbone(dataset, _params(f"{name}=none", f"{name}=default"))
    assert {candidate.weights for candidate in found} == {"none", "default"}
    assert chosen.weights == found[0].weights
    assert len({candidate.logme for candidate in found}) == 2


def test_clear_errors(dataset: ImageDataset, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"backbone='auto': name what to choose from, such as .*candidates="):
        choose_backbone(dataset, _params())
    with pytest.raises(ModelError, match="no_such_net"):
        choose_backbone(dataset, _params(SMALL, "no_such_net"))
    shared = ShardParams(**_params(SMALL).model_dump(), shard=0, shards=2)
    with pytest.raises(ParamsError, match="workers that share the images need a named backbone"):
        extract_part(tmp_path / "part", dataset, shared)
