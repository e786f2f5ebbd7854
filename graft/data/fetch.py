"""Fetch raw images from a version tracked by DVC, a folder, or a CSV manifest next to its images.

The result is a folder of regular files at their relative paths, with `source.json`, which records where they came from.
A manifest becomes `manifest.csv` in it, a packed set (`packed_sets`) files and a manifest. Nothing outside the source
is read: links that lead out of it, pipes and devices are left out and listed.
"""

import difflib
import hashlib
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import yaml

from graft.core.atomic import remove, write_json
from graft.core.credentials import mask_credentials
from graft.core.digest import folder_digest, listing_digest
from graft.core.errors import DataError, ParamsError
from graft.core.progress import progress
from graft.data.clutter import ARCHIVES, is_clutter
from graft.data.copying import NotCopiedError, copy_file, walk_files
from graft.data.manifest import MANIFEST, SUFFIXES, existing_form, meant_path, read_manifest
from graft.data.packed_sets import PackedSet, packed_set
from graft.data.source import SOURCE_FILE, Skipped, Source
from graft.data.web_dataset import PackedImage
from graft.demo.demo_digits import DEMO_FOLDER
from graft.imaging.signatures import EXTENSIONS, HEAD_BYTES, image_format

_ACCEPTED = (
    "a folder of class folders, a folder of train / val / test folders of class folders, a CSV manifest "
    "(columns path, label), a `datasets` set on disk, Parquet files, WebDataset tars, or, with get_data.repo, a folder "
    "that DVC tracks in a git repository"
)
PACKED_MANIFEST = "manifest.jsonl"
_MAX_NAMED = 3
_RESERVED = Skipped(path=SOURCE_FILE, kind="reserved_name", reason="name reserved for the record of the source")


def fetch(source: str, folder: Path, *, repo: str | None = None, rev: str | None = None) -> Source:
    """Write the images of `source` to `folder` (which must not exist yet).

    Args:
        source: a folder, a `.csv` file, a packed set, or with `repo` the path of a folder that DVC tracks in it.
        folder: where to write.
        repo: a git repository (URL or path).
        rev: a git revision of it; None: its HEAD.

    Raises:
        DataError: if the source does not exist or is empty, or its manifest is invalid.
        ParamsError: for a revision without a repository.
    """
    folder.mkdir(parents=True)
    if repo is not None:
        made = _from_dvc(source, folder, repo, rev)
    elif rev is not None:
        raise ParamsError(
            f"get_data.rev={rev!r}: needs get_data.repo, the git repository (URL or path) it is a revision of"
        )
    else:
        made = _from_local(Path(source).expanduser(), folder)
    if not made.files:
        left_out = f" ({len(made.skipped)} left out: {_reasons(made.skipped)})" if made.skipped else ""
        raise DataError(f"{made}: contains no files{left_out}; expected {_ACCEPTED}")
    if made.skipped:
        print(f"{made}: {len(made.skipped)} entries left out: {_reasons(made.skipped)}", file=sys.stderr)
    write_json(folder / SOURCE_FILE, made.model_dump(mode="json"))
    return made


@contextmanager
def as_folder(source: Path) -> Iterator[Path]:
    """Yield the folder that `source` is, or for a while one with the images of its manifest or packed set.

    Raises:
        DataError: see `fetch`.
    """
    if source.is_dir() and packed_set(source) is None:
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="graft-") as scratch:
        folder = Path(scratch) / source.stem
        fetch(str(source), folder)
        yield folder


def _from_dvc(source: str, folder: Path, repo: str, rev: str | None) -> Source:
    path = PurePosixPath(source).as_posix()  # without ./ and a trailing /
    remove(folder)  # DVC writes one level deeper into a folder that exists
    # late: DVC takes seconds to import, and a plain folder needs none of it
    from graft.data.dvc_versions import fetch_version

    version = fetch_version(repo, rev, path, folder)
    left_out = [
        name for name in version.files if name == SOURCE_FILE or any(map(is_clutter, PurePosixPath(name).parts))
    ]
    for name in left_out:
        remove(folder / name)
    return Source(
        origin="dvc",
        path=path,
        repo=mask_credentials(repo),
        rev=version.commit,
        digest=version.digest,
        files=len(version.files) - len(left_out),
        skipped=(_RESERVED,) if SOURCE_FILE in left_out else (),
    )


def _from_local(source: Path, folder: Path) -> Source:
    if (packed := packed_set(source)) is not None:
        return _from_packed(source, packed, folder)
    if source.is_dir():
        return _from_folder(source, folder)
    if source.is_file() and source.suffix.lower() in SUFFIXES:
        return _from_manifest(source, folder)
    raise DataError(absent(source))


def _from_folder(source: Path, folder: Path) -> Source:
    paths = list(walk_files(source))
    reserved = (_RESERVED,) if SOURCE_FILE in paths else ()
    files, skipped = _copy_all(source, [path for path in paths if path != SOURCE_FILE], folder)
    return Source(
        origin="folder",
        path=source.as_posix(),
        digest=_digest_of_folder(source, files),
        files=len(files),
        skipped=reserved + skipped,
    )


def _from_manifest(manifest: Path, folder: Path) -> Source:
    lines = _manifest_paths(manifest)
    name = "manifest.jsonl" if manifest.suffix.lower() == ".jsonl" else MANIFEST
    files, skipped = _copy_all(manifest.parent, lines, folder)
    if skipped:  # unlike files in a folder, every file that a manifest names must exist
        named = ", ".join(f"line {lines[s.path]}: {s.path!r} ({s.reason})" for s in skipped[:_MAX_NAMED])
        more = f" and {len(skipped) - _MAX_NAMED} more" if len(skipped) > _MAX_NAMED else ""
        raise DataError(
            f"{manifest}: {len(skipped)} of {len(lines)} files cannot be read: {named}{more}; "
            f"paths are relative to the folder of the CSV ({manifest.parent})"
        )
    files[name] = copy_file(manifest.parent, manifest.name, folder / name)
    return Source(origin="manifest", path=manifest.as_posix(), digest=listing_digest(files), files=len(lines))


def _from_packed(source: Path, packed: PackedSet, folder: Path) -> Source:
    """Write every image of a set as a file, and a manifest of them."""
    files: dict[str, str] = {}
    lines: list[str] = []
    for image in progress(packed.read(), "unpack", unit="images"):
        if not image.label:
            where = f" of the split {image.split}" if image.split else ""
            raise DataError(
                f"{source}: image {len(lines)} ({image.name or 'without a name'}){where} has no label; save the set "
                "again without it, or without a split that has no labels"
            )
        path = f"{image.split or 'images'}/{len(lines):08d}{_extension(image)}"
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(image.content)
        files[path] = hashlib.md5(image.content, usedforsecurity=False).hexdigest()
        row: dict[str, str] = {"path": path, "label": image.label}
        if image.split:
            row["split"] = image.split
        own = {"file_name": image.name} if image.name else {}
        more = {f"set:{name}" if name in row else name: value for name, value in {**own, **image.more}.items()}
        lines.append(json.dumps({**row, **more}))
    manifest = "".join(f"{line}\n" for line in lines).encode()
    (folder / PACKED_MANIFEST).write_bytes(manifest)
    files[PACKED_MANIFEST] = hashlib.md5(manifest, usedforsecurity=False).hexdigest()
    return Source(origin="packed", path=source.as_posix(), digest=listing_digest(files), files=len(lines))


def _extension(image: PackedImage) -> str:
    """Return the extension of an image by its content, else that of its name."""
    usual = EXTENSIONS.get(image_format(image.content[:HEAD_BYTES]), ())
    own = PurePosixPath(image.name).suffix.lower()
    return own if own in usual or not usual else usual[0]


def _copy_all(source: Path, paths: Collection[str], folder: Path) -> tuple[dict[str, str], tuple[Skipped, ...]]:
    """Copy files to the same relative paths; return the md5 of each, and what was left out."""
    files: dict[str, str] = {}
    skipped: list[Skipped] = []
    for path in progress(paths, "copy", total=len(paths), unit="files"):
        try:
            files[path] = copy_file(source, existing_form(source, path), folder / path)
        except NotCopiedError as fault:
            skipped.append(Skipped(path=_printable(path), kind=fault.kind, reason=str(fault)))
    return files, tuple(skipped)


def _digest_of_folder(source: Path, files: Mapping[str, str]) -> str:
    """Return the digest of the copied files, or DVC's recorded one if the folder with its hidden files matches it."""
    digest = listing_digest(files)
    recorded = _recorded_digest(source)
    if recorded in (None, digest):
        return digest
    if folder_digest(source) == recorded:
        return str(recorded)
    print(f"{source}: differs from the version in {source}.dvc; `dvc add {source}` records it", file=sys.stderr)
    return digest


def _recorded_digest(source: Path) -> str | None:
    try:
        beside = source.absolute().with_name(f"{source.absolute().name}.dvc")
        content = yaml.safe_load(beside.read_text(encoding="utf-8"))
        return str(content["outs"][0]["md5"])
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError):
        return None


def _manifest_paths(manifest: Path) -> dict[str, int]:
    """Return the line on which each path of the manifest appears first.

    Raises:
        DataError: see `read_manifest`; or if a path is empty or leads out of the manifest's folder.
    """
    lines: dict[str, int] = {}
    table = read_manifest(manifest, needs=("path",))
    masks = "label" not in table.named and "mask" in table.extra
    for line, row, extra in table.rows():
        for path in (row["path"], extra["mask"]) if masks else (row["path"],):
            if path or not masks:
                lines.setdefault(_checked(meant_path(manifest.parent, path), manifest, line), line)
    return lines


def _checked(path: str, manifest: Path, line: int) -> str:
    where = f"{manifest}: line {line}"
    if not path:
        raise DataError(f"{where}: empty path; expected a file relative to the folder of the CSV")
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts:
        raise DataError(
            f"{where}: path {path!r} leads out of the folder of the CSV; "
            "put the CSV above its images and name them relative to it, without '..'"
        )
    if pure.as_posix() in (SOURCE_FILE, MANIFEST):
        raise DataError(f"{where}: path {path!r} is a name that Graft reserves; rename the file")
    return path


def absent(source: Path) -> str:
    """Return what is wrong with a local source that is neither a folder nor a manifest."""
    if source.exists() and source.suffix.lower() in ARCHIVES:
        return f"{source}: is an archive; unpack it and name the folder"
    if source.exists():
        return f"{source}: is a file but not a {SUFFIXES[0]}, {' or '.join(SUFFIXES[1:])}; expected {_ACCEPTED}"
    if _recorded_digest(source):
        return f"{source}: does not exist, but {source}.dvc tracks it; `dvc pull {source}` fetches it" + _demo_hint(
            source
        )
    hint = _demo_hint(source) or _nearest(source)
    return f"{source}: no such file or folder{hint or f'; expected {_ACCEPTED}'}"


def _demo_hint(source: Path) -> str:
    return " (`graft demo` makes the demo digits there)" if source == DEMO_FOLDER else ""


def _nearest(source: Path) -> str:
    """Return a hint at a file or folder beside it with nearly the same name."""
    try:
        beside = [path.name for path in source.parent.iterdir()]
    except OSError:
        return ""
    close = difflib.get_close_matches(source.name, beside, n=1)
    return f"; did you mean {source.with_name(close[0])}?" if close else ""


def _reasons(skipped: Iterable[Skipped]) -> str:
    return ", ".join(f"{count} x {reason}" for reason, count in Counter(s.reason for s in skipped).most_common())


def _printable(path: str) -> str:
    """Show bytes that are not UTF-8 as escapes: JSON and terminals need valid text."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
