"""The backbone of an earlier model of one's own, fine-tuned or not, as the source of the next one."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.core.atomic import read_json
from graft.core.checksums import check_folder
from graft.core.errors import ModelError
from graft.imaging.decode import MAX_PIXELS
from graft.imaging.value_range import ValueRange

if TYPE_CHECKING:
    from graft.backbones.backbone import Backbone

SPEC_FILE, TENSORS_FILE = "bundle.json", "backbone.safetensors"
"""Of a bundle, see `models.bundle`."""
PACKED = Path("artifacts", "bundle")
"""Where a packed model keeps its bundle, see `serving.packaging`."""


def model_folder(weights: str) -> Path | None:
    """Return the folder of the bundle that `extract_features.weights` names; None if it names no model.

    Args:
        weights: the folder of a bundle or of a packed model, or anything else that the parameter may be.
    """
    folder = Path(weights).expanduser()
    for place in (folder, folder / PACKED):
        if all((place / name).is_file() for name in (SPEC_FILE, TENSORS_FILE)):
            return place
    return None


def own_backbone(
    folder: Path,
    architecture: str,
    channels: int,
    *,
    max_pixels: int = MAX_PIXELS,
    value_range: ValueRange | None = None,
    changes: Mapping[str, Any] | None = None,
) -> "Backbone":
    """Return the backbone of a bundle in eval mode: its groups up to the depth that it reused, with its transform.

    Its `weights.source` says which model it is, what that was trained on and where its own weights came from.

    Args:
        folder: of the bundle.
        architecture: the one asked for.
        channels: of the images.
        max_pixels: an image with more pixels is refused.
        value_range: what is black and white in wide images, unless the model knows it already.
        changes: to the transform: `size`, `mean` or `std`.

    Raises:
        ModelError: if it is another architecture, takes other channels, or its files do not belong together.
    """
    # late: a run with nothing new should not import torch
    from graft.backbones.backbone import BackboneSpec, untrained_backbone
    from graft.backbones.from_tensors import artifact_tensors, from_tensors
    from graft.backbones.weights import WeightsSpec, tensors_digest

    check_folder(folder)
    content = read_json(folder / SPEC_FILE)
    try:
        spec = BackboneSpec.model_validate(content["backbone"])
        tensors = artifact_tensors(folder / TENSORS_FILE)
        backbone = from_tensors(lambda: untrained_backbone(spec), tensors)
    except (ModelError, KeyError, TypeError, RuntimeError, ValueError) as error:
        raise ModelError(f"extract_features.weights={str(folder)!r}: not a model ({str(error)[:200]})") from error
    if spec.architecture != architecture:
        raise ModelError(
            f"extract_features.backbone={architecture!r}: the model in {folder} has another backbone; "
            f"set extract_features.backbone={spec.architecture}"
        )
    if spec.transform.channels != channels:
        raise ModelError(
            f"validate_data.channels={channels}: the model in {folder} takes {spec.transform.channels} channels"
        )
    transform = spec.transform.model_copy(
        update={"max_pixels": max_pixels, "value_range": spec.transform.value_range or value_range, **(changes or {})}
    )
    weights = WeightsSpec(source=_lineage(folder, content, spec.weights.source), sha256=tensors_digest(tensors))
    backbone.spec = spec.model_copy(update={"transform": transform, "weights": weights})
    return backbone


def _lineage(folder: Path, content: Mapping[str, Any], source: str) -> str:
    name = folder.parents[len(PACKED.parts) - 1].name if folder.parts[-2:] == PACKED.parts else folder.name
    trained = content.get("trained_groups") or ()
    how = f"trained from {trained[0]} up" if trained else "not trained further"
    of = f"{len(content['labels'])} labels of dataset {content['dataset_digest'][:12]}"
    return f"model {name} ({of}, {how}), from {source}"
