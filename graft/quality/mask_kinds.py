"""The kinds of finding that only masks and objects have; `findings.KINDS` holds them with the others."""

from collections.abc import Mapping

from graft.quality.kind import Kind

_DROP = ", or set validate_data.on_bad_image=drop to leave these photos out"
MASK_FAULTS = (
    "mask_missing",
    "mask_unreadable",
    "mask_lossy",
    "mask_colours",
    "mask_size",
    "mask_rotated",
    "mask_values",
)
"""Kinds of masks that cannot be learnt from; `validate_data.on_bad_image` decides what happens to their photos."""
MASK_KINDS: Mapping[str, Kind] = {
    "mask_missing": Kind("photos without a mask", "fail", "add the masks" + _DROP),
    "mask_unreadable": Kind("masks that cannot be read", "fail", "repair or replace them" + _DROP),
    "mask_lossy": Kind("masks stored as JPEG", "fail", "save masks as PNG: JPEG changes the values" + _DROP),
    "mask_colours": Kind(
        "masks of colours", "fail", "save each class as one number (grey or palette PNG), by a table of colours" + _DROP
    ),
    "mask_size": Kind(
        "masks of another shape than their photo", "fail", "make them anew from the photos as they are" + _DROP
    ),
    "mask_rotated": Kind(
        "masks drawn on a photo before its EXIF rotation", "fail", "rotate the mask, or save the photo upright" + _DROP
    ),
    "mask_values": Kind("values in masks without a name", "fail", "name them in validate_data.mask_values" + _DROP),
    "polygon": Kind(
        "outlines of objects that are broken", "fail", "draw them anew; a polygon needs three points inside the photo"
    ),
    "tiny_object": Kind(
        "objects of zero or tiny size",
        "fail",
        "remove them (other tools learn NaN from them); validate_data.severity.tiny_object=warn leaves them out",
    ),
    "mask_alone": Kind("masks without a photo", "warn", "add the photos or remove the masks"),
    "mask_suspect": Kind("masks that the other photos contradict", "warn", "look at them; draw wrong ones anew"),
    "mask_empty": Kind("masks without any object", "warn", "look whether the photos show none"),
    "mask_full": Kind("masks that are one object all over", "warn", "look whether the photos show nothing else"),
    "mask_resized": Kind(
        "masks smaller or larger than their photo, of the same shape",
        "info",
        "nothing to do: they are resized to the photo, each pixel with the value of the nearest",
    ),
    "mask_binary": Kind("masks of two values", "info", "name them in validate_data.mask_values if this is not meant"),
    "no_objects": Kind("photos without any object", "info", "nothing to do: they are learnt as photos of none"),
}
