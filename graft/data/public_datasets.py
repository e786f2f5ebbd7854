"""Public image sets by name: downloaded, checked against a pinned checksum, extracted.

    python -m graft.data.public_datasets flower_photos [--out data/flower_photos]

A set is moved into place only when it is complete; partial downloads are neither kept nor resumed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import requests
import typer

from graft.core.atomic import remove, replacing
from graft.core.digest import CHUNK_BYTES, file_digest
from graft.core.errors import DataError, GraftError
from graft.core.progress import progress
from graft.data.unpack import Limits, extract

TIMEOUT_SECONDS = (10, 60)  # to connect, and between two reads


@dataclass(frozen=True)
class Archive:
    """A public archive of images.

    Attributes:
        url: a .zip or .tar.gz.
        checksum: of the file, as `sha256:HEX` or `md5:HEX`.
        bytes: its size.
        root: the folder inside it that holds the class folders or the split folders.
        note: the licence, and what to know before training on it.
        task: of `validate_data`, where it is not classification.
    """

    url: str
    checksum: str
    bytes: int
    root: str
    note: str
    task: str = ""


# Each checksum is one that others have published: PyTorch's download script of its tutorials (hymenoptera),
# TensorFlow Datasets (flower_photos), GoMLX's example (cats_vs_dogs), Avalanche (penn_fudan). Of that only an MD5 is
# published: nobody has yet found a way to make another file of a given MD5 and size.
ARCHIVES = {
    "hymenoptera": Archive(
        "https://download.pytorch.org/tutorial/hymenoptera_data.zip",
        "sha256:fbc41b31d544714d18dd1230b1e2b455e1557766e13e67f9f5a7a23af7c02209",
        47_286_322,
        "hymenoptera_data",
        "ants and bees, 245 train and 153 val photos, a subset of ImageNet (research use)",
    ),
    "flower_photos": Archive(
        "https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz",
        "sha256:4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c",
        228_813_984,
        "flower_photos",
        "5 flowers, 3,670 photos (CC BY 2.0, photographers named in LICENSE.txt)",
    ),
    "cats_vs_dogs": Archive(
        "https://download.microsoft.com/download/3/E/1/3E1C3F21-ECDB-4869-8368-6DEBA77B919F/kagglecatsanddogs_5340.zip",
        "sha256:b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9",
        824_887_076,
        "PetImages",
        "25,000 photos, some of them broken: run with validate_data.on_bad_image=drop (Microsoft, research use)",
    ),
    "penn_fudan": Archive(
        "https://www.cis.upenn.edu/~jshi/ped_html/PennFudanPed.zip",
        "md5:5aaa3dee905cef73325923716e38fc6d",
        53_723_336,
        "PennFudanPed",
        "170 photos of streets with a mask for each of 345 people (University of Pennsylvania, research use)",
        task="instances",
    ),
}


def fetch_archive(name: str, folder: Path, file: Path | None = None) -> int:
    """Download the archive `name`, check it and extract it to `folder`.

    Args:
        name: one of `ARCHIVES`.
        folder: where to extract; its parent receives the temporary files.
        file: the archive, if it was downloaded already; it is still checked, and kept.

    Returns:
        The number of files, or 0 if `folder` has content already.

    Raises:
        DataError: if the archive is unknown, cannot be downloaded, is not the expected one, or is unsafe to extract.
    """
    archive = ARCHIVES.get(name)
    if archive is None:
        raise DataError(f"{name}: no such archive; known: {', '.join(ARCHIVES)}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        return 0
    with replacing(folder, checksums=False) as temporary:
        here = file or temporary.with_suffix(".archive")
        try:
            if file is None:
                _download(name, archive, here)
            _check(name, archive, here)
            extracted = extract(here, temporary, archive.root, Limits())
        finally:
            if file is None:
                remove(here)
    return extracted


def _download(name: str, archive: Archive, target: Path) -> None:
    try:
        with requests.get(archive.url, stream=True, timeout=TIMEOUT_SECONDS) as answer:
            answer.raise_for_status()
            received = 0
            with target.open("wb") as file:
                for chunk in progress(_chunks(answer), f"download {name}", archive.bytes // CHUNK_BYTES + 1, "MiB"):
                    received += len(chunk)
                    if received > archive.bytes:
                        raise DataError(
                            f"{archive.url}: more than the expected {archive.bytes:,} bytes; not the pinned file"
                        )
                    file.write(chunk)
    except requests.RequestException as error:
        raise DataError(
            f"{name}: cannot download {archive.url} ({_cause(error)}); check the network, or fetch the file elsewhere "
            f"and give it: python -m graft.data.public_datasets {name} --file {Path(urlsplit(archive.url).path).name}"
        ) from error


def _chunks(answer: requests.Response) -> Iterator[bytes]:
    chunks: Iterator[bytes] = answer.iter_content(CHUNK_BYTES)
    yield from chunks


def _check(name: str, archive: Archive, file: Path) -> None:
    if not file.is_file():
        raise DataError(f"{file}: no such file; expected the archive from {archive.url}")
    if (size := file.stat().st_size) != archive.bytes:
        raise DataError(f"{name}: {archive.url} has {size:,} bytes, expected {archive.bytes:,}; try again later")
    kind, _, expected = archive.checksum.partition(":")
    if (found := file_digest(file, kind)) != expected:
        raise DataError(f"{name}: {archive.url} has {kind} {found}, expected {expected}; it is not the pinned file")


def _cause(error: BaseException) -> str:
    """Return the message of the operating system or the server, without the layers in between."""
    if isinstance(error, requests.HTTPError):
        return f"the server answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return "timed out"
    seen: BaseException | None = error
    text = type(error).__name__
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            text = seen.strerror
        seen = seen.__cause__ or seen.__context__
    return text


def main(
    name: Annotated[str, typer.Argument(help=f"one of: {', '.join(ARCHIVES)}")],
    out: Annotated[Path | None, typer.Option(help="folder to write to; data/NAME if not given")] = None,
    file: Annotated[Path | None, typer.Option(help="the archive, if it was fetched by other means")] = None,
) -> None:
    """Download a public image set into a folder that the pipeline can read."""
    folder = out or Path("data") / name
    try:
        files = fetch_archive(name, folder, file)
    except GraftError as error:
        raise SystemExit(str(error)) from error
    if files:
        print(f"{folder}: {files:,} files; {ARCHIVES[name].note}")
        task = ARCHIVES[name].task
        print(f"next: graft run {folder}" + (f" --params validate_data.task={task}" if task else ""))
    else:
        print(f"{folder}: is there already; remove it to fetch it again")


if __name__ == "__main__":
    typer.run(main)
