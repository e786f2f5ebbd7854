"""What can be checked before a run without looking at the images: paths and names."""

from pathlib import Path

from graft.core.atomic import remove, write_json
from graft.core.errors import DataError, GraftError, ModelError
from graft.data.fetch import absent
from graft.data.manifest import SUFFIXES
from graft.data.packed_sets import packed_set
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.get_data import GetDataParams

_WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


def check_source(params: GetDataParams) -> None:
    """Raise an error for local data that do not exist or are of no known form."""
    source = Path(params.source).expanduser()
    if params.repo is not None or source.is_dir():
        return
    if not source.is_file() or (source.suffix.lower() not in SUFFIXES and packed_set(source) is None):
        raise DataError(f"get_data: {absent(source)}")


def check_writable(folder: Path) -> None:
    """Raise an error now, not at the end of a long run, if the folder is not writable."""
    if "python3" in str(folder):
        raise GraftError(f"{folder}: a local run cannot use a path with 'python3' in it; choose or link another path")
    there = folder.exists()
    probe = folder / ".writable"
    write_json(probe, {})
    remove(probe)
    if not there:
        folder.rmdir()


def check_backbones(params: ExtractFeaturesParams) -> None:
    """Raise an error for a misspelt backbone before the images are validated; the default is known to exist."""
    names = [name.partition("=")[0] for name in params.candidates] if params.backbone == "auto" else [params.backbone]
    unchecked = [name for name in names if name not in ExtractFeaturesParams().candidates]
    if unchecked:
        from graft.backbones.architecture_names import check_architecture

        for name in unchecked:
            check_architecture(name)


def check_weights(params: ExtractFeaturesParams) -> None:
    """Raise an error for a weights file that does not exist."""
    for text in (params.weights, *(name.partition("=")[2] for name in params.candidates)):
        path = Path(text).expanduser()
        is_path = path.suffix in _WEIGHTS_SUFFIXES or ("/" in text and ":/" not in text)
        if is_path and not path.exists():
            raise ModelError(f"extract_features.weights={text!r}: no such file")
