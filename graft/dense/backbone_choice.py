"""The backbone whose maps are read, as the parameters describe it, and the same one without what it has learnt."""

from graft.backbones.backbone import Backbone, BackboneSpec, build_backbone
from graft.backbones.feature_store import auto_image_size
from graft.core.errors import ParamsError
from graft.masks.dataset import MaskDataset
from graft.params.extract_features import ExtractFeaturesParams
from graft.tasks.pixels import refuse_others

USED_PARAMS = ("backbone", "weights", "image_size", "mean", "std", "stem", "batch_size", "workers", "seed")


def maps_backbone(dataset: MaskDataset, params: ExtractFeaturesParams) -> Backbone:
    """Build the backbone that the parameters describe, for photos with masks.

    Raises:
        ParamsError: for a parameter that has no meaning for maps.
    """
    kind = dataset.task.kind
    refuse_others("extract_features", params, USED_PARAMS, kind)
    if params.backbone == "auto":
        raise ParamsError(f"extract_features.backbone=auto: task {kind} has no such choice; name one")
    size = None if params.image_size == "auto" else params.image_size
    backbone = build_backbone(
        params.backbone,
        params.weights,
        image_size=size,
        channels=dataset.spec.channels,
        max_pixels=dataset.spec.max_pixels,
        stem=params.stem,
        mean=params.mean,
        std=params.std,
        seed=params.seed,
    )
    if size is None and auto_image_size(dataset.table) < backbone.spec.transform.size:
        return maps_backbone(dataset, params.model_copy(update={"image_size": auto_image_size(dataset.table)}))
    return backbone


def untrained_twin(spec: BackboneSpec, seed: int) -> Backbone:
    """Return the same network up to the same depth with random weights."""
    transform = spec.transform
    return build_backbone(
        spec.architecture,
        "none",
        image_size=transform.size,
        channels=transform.channels,
        mean=transform.mean if len(transform.mean) == transform.channels else None,
        std=transform.std if len(transform.std) == transform.channels else None,
        seed=seed,
    ).truncated(spec.depth)
