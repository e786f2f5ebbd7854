"""What `graft run` looks at before it starts: images, parameters and the output folder; and about how long it takes.

A mistake ends here, within a second and in one line; nothing has been written or registered by then.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from graft.core.errors import DataError
from graft.data.listing import list_images
from graft.data.manifest import SUFFIXES, read_manifest
from graft.data.packed_sets import packed_set
from graft.data.records import Listing
from graft.data.source import data_name, registered_name
from graft.masks.pairing import pair_masks
from graft.params.params import Params
from graft.pixel_quality.coco_listing import coco_files, list_coco
from graft.tasks.columns import task_columns
from graft.tasks.pixels import Kind
from pipelines.local.checks import check_backbones, check_source, check_weights, check_writable

if TYPE_CHECKING:
    from graft.quality.doctor import Diagnosis

PROBE = 10
"""Images that are opened: enough for the time of decoding one."""


@dataclass(frozen=True)
class Ahead:
    """What a run is about to do."""

    params: Params
    out: Path
    name: str
    """The registered name."""
    found: "Diagnosis | None"
    """A first look at a local folder; None for a manifest, a packed set or data in a git repository."""
    images: int | None = None
    """Rows of a manifest, or photos with masks or objects."""

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield a heading and a line for each thing to know."""
        if self.found:
            yield from (line for line in self.found.lines() if line[0] != "pictures")
        else:
            rows = f": {self.images:,} images" if self.images is not None else ""
            yield "data", f"{self.params.get_data.source}{rows}"
        yield (
            "leaves",
            f"{self.out / 'report.html'}, {self.out / 'model'}, and a version of {self.name} in the registry",
        )


def look(params: Params, out: Path) -> Ahead:
    """Look at what a run needs before it starts.

    Raises:
        GraftError: for a folder, file, backbone or weights that do not exist or cannot be used.
    """
    check_source(params.get_data)
    check_backbones(params.extract_features)
    check_weights(params.extract_features)
    check_writable(out)
    name = registered_name(params.register_model.name, data_name(params.get_data.source, params.get_data.repo))
    found, images = _look_at_images(params)
    return Ahead(params, out, name, found, images)


def _look_at_images(params: Params) -> "tuple[Diagnosis | None, int | None]":
    if params.get_data.repo is not None:
        return None, None
    source = Path(params.get_data.source).expanduser()
    section = params.validate_data
    tasks = task_columns(section.labels)
    if source.is_file() and source.suffix.lower() in SUFFIXES:
        needs = ("path", "label") if section.task == "classify" else ("path",)
        return None, len(read_manifest(source, needs, tasks).table.rows)
    if packed_set(source) is not None:
        return None, None
    if section.task != "classify":
        return None, _photos(source, section.task)
    listing = list_images(source, section.layout, section.label_level, tasks)
    _check_classes(listing, params)
    from graft.quality.doctor import diagnose  # late: a mistake in the folders should not wait for scipy

    return diagnose(source, section, PROBE, listing), None


def _photos(source: Path, task: Kind) -> int:
    """Return the number of photos with masks or outlined objects, if the folder has a layout of theirs."""
    files = coco_files(source) if task == "instances" else []
    listing = list_coco(source, files)[0] if files else pair_masks(source, task).listing
    return len(listing.records)


def _check_classes(listing: Listing, params: Params) -> None:
    labels = {record.label for record in listing.records if record.image}
    source = params.get_data.source
    if not labels:
        raise DataError(f"{source}: holds no images; expected class folders, or a CSV manifest (path, label)")
    several = any(task.has_tags for task in task_columns(params.validate_data.labels))
    if len(labels) == 1 and not several and params.validate_data.severity.get("one_class", "fail") == "fail":
        raise DataError(f"{source}: all images are of one class, {labels.pop()!r}; a classifier needs two")
