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
from graft.heads.backbone_selection import Candidate, Preference, choose_backbone, preferred
from graft.params.extract_features import ExtractFeaturesParams

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


def candidate(name: str, behind: float, operations: int, *, clearly_worse: bool = False) -> Candidate:
    return Candidate(
        backbone=name,
        weights="none",
        tap="neck",
        accuracy=0.9,
        low=0.8,
        high=0.95,
        log_loss=0.3 + behind,
        behind=behind,
        error=0.03 if behind else 0.0,
        clearly_worse=clearly_worse,
        logme=0.0,
        operations=operations,
    )


@pytest.mark.parametrize(("prefer", "taken"), [("accuracy", "large"), ("balance", "small"), ("cost", "tiny")])
def test_where_nothing_is_clear_the_preference_decides(prefer: Preference, taken: str) -> None:
    found = [
        candidate("tiny", 0.04, 1),
        candidate("small", 0.02, 2),
        candidate("best", 0.0, 3),
        candidate("large", 0.04, 4),
        candidate("huge", 0.2, 5, clearly_worse=True),
        candidate("broken", 0.2, 0, clearly_worse=True),
    ]
    assert preferred(found, prefer).backbone == taken


def test_each_candidate_is_told_with_its_distance_from_the_best(dataset: ImageDataset) -> None:
    _, found = choose_backbone(dataset, _params(LARGE, SMALL, prefer="accuracy"))
    large = next(one for one in found if one.backbone == LARGE)
    assert (found[0] is large) == (not large.clearly_worse)
    best, other = sorted(found, key=lambda one: one.behind)
    assert (best.behind, best.error, best.describe()) == (0.0, 0.0, "the lowest")
    assert other.behind == pytest.approx(other.log_loss - best.log_loss)
    assert other.error > 0
    assert "behind the lowest (standard error" in other.describe()


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
