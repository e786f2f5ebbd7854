"""Packed models of masks and of objects that are made in a second: random weights, and whatever these answer."""

from pathlib import Path

from graft.backbones.backbone import Backbone, build_backbone
from graft.decoders.decoder import Decoder
from graft.decoders.mask_bundle import MaskBundle, MaskBundleSpec, MaskNetwork
from graft.dense.levels import Level, find_levels
from graft.detectors.detector import Detector, new_heads
from graft.detectors.detector_bundle import DetectorBundle, DetectorSpec
from graft.pixel_serving.pixel_kinds import open_model
from graft.pixel_serving.pixel_packaging import pack_pixels
from graft.tasks.pixels import Kind, PixelTask
from tests.support.drawn_masks import NAMES

LABELS = tuple(NAMES.values())
SIDE = 64


def pack_untrained_pixels(kind: Kind, folder: Path, example: bytes) -> None:
    """Pack a model as `model` in this folder, as the pipeline does; its bundle is `bundle`."""
    backbone = build_backbone("tf_efficientnet_lite0", "none", image_size=SIDE)
    levels = find_levels(backbone)[:3]
    backbone = backbone.truncated(levels[-1].group)
    (_mask_bundle if kind == "segment" else _detector_bundle)(backbone, levels).save(folder / "bundle")
    opened = open_model(folder / "bundle")
    (folder / "network").mkdir()
    spec = opened.write_network(folder / "network")
    pack_pixels(opened.served, folder / "network", spec, folder / "bundle", folder / "model", example, [])


def _mask_bundle(backbone: Backbone, levels: tuple[Level, ...]) -> MaskBundle:
    names, channels = tuple(level.group for level in levels), tuple(level.channels for level in levels)
    spec = MaskBundleSpec(
        task=PixelTask(kind="segment", labels=LABELS),
        labels=LABELS,
        backbone=backbone.spec,
        source_groups=backbone.spec.groups,
        levels=names,
        channels=channels,
        dataset_digest="0",
    )
    return MaskBundle(spec, MaskNetwork(backbone, names, Decoder(channels, len(LABELS))).eval())


def _detector_bundle(backbone: Backbone, levels: tuple[Level, ...]) -> DetectorBundle:
    names, channels = tuple(level.group for level in levels), tuple(level.channels for level in levels)
    kinds = LABELS[1:]
    spec = DetectorSpec(
        task=PixelTask(kind="instances", labels=kinds),
        labels=kinds,
        backbone=backbone.spec,
        source_groups=backbone.spec.groups,
        levels=names,
        channels=channels,
        dataset_digest="0",
        score=0.0,
    )
    return DetectorBundle(spec, Detector(backbone, names, new_heads(channels, len(kinds), SIDE, 0)).eval())
