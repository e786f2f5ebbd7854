"""Downloading public image sets, against a real HTTP server on loopback."""

import hashlib
import http.server
import io
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image
from typer.testing import CliRunner

from graft.core.errors import DataError
from graft.data import public_datasets
from graft.data.public_datasets import ARCHIVES, Archive, fetch_archive
from pipelines.cli import app as graft
from tests.support.archives import IMAGES, pack_tgz, pack_zip
from tests.support.drawn_objects import write_numbered

KNOWN = "hymenoptera, flower_photos, cats_vs_dogs, penn_fudan"


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves `directory`; below /cut/ it promises more bytes than it sends, and /redirect/ leads elsewhere."""

    directory: str

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments, directory=self.directory)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        if self.path.startswith("/redirect/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/redirect"))
            self.end_headers()
        elif self.path.startswith("/cut/"):
            content = (Path(self.directory) / self.path.removeprefix("/cut/")).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A server of the folder `served`, and its address."""
    (tmp_path / "served").mkdir()
    handler = type("Served", (Handler,), {"directory": str(tmp_path / "served")})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


@pytest.fixture
def offer(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Offer":
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return Offer(server, tmp_path / "served", monkeypatch)


class Offer:
    """Puts an archive on the server and into the catalogue, under the name `set`."""

    def __init__(self, server: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server, self.folder, self.monkeypatch = server, folder, monkeypatch

    def __call__(self, file: Path, *, url: str = "", checksum: str = "", size: int = 0) -> Archive:
        content = file.read_bytes()
        archive = Archive(
            url or f"{self.server}/{file.name}",
            checksum or f"sha256:{hashlib.sha256(content).hexdigest()}",
            size or len(content),
            "set",
            "free",
        )
        self.monkeypatch.setattr(public_datasets, "ARCHIVES", {"set": archive})
        return archive


def as_png(photo: Path) -> bytes:
    """Return a picture's content as PNG."""
    content = io.BytesIO()
    Image.open(photo).save(content, "PNG")
    return content.getvalue()


def refused(tmp_path: Path, name: str = "set") -> str:
    """Return the error line, after checking that nothing is left behind."""
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DataError) as caught:
        fetch_archive(name, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("pack", [pack_zip, pack_tgz])
@pytest.mark.parametrize("way", ["", "/redirect"])
def test_download(offer: Offer, tmp_path: Path, pack: type, way: str) -> None:
    file = pack(offer.folder, IMAGES)
    offer(file, url=f"{offer.server}{way}/{file.name}")
    assert fetch_archive("set", tmp_path / "out") == 3
    assert (tmp_path / "out" / "cat" / "1.png").read_bytes() == b"one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "served"]


def test_an_existing_folder_is_left_unchanged(offer: Offer, tmp_path: Path) -> None:
    offer(pack_zip(offer.folder, IMAGES))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    assert fetch_archive("set", tmp_path / "out") == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_wrong_checksum(offer: Offer, tmp_path: Path) -> None:
    archive = offer(pack_zip(offer.folder, IMAGES), checksum="sha256:" + "0" * 64)
    line = refused(tmp_path)
    assert line.startswith(f"set: {archive.url} has sha256 ")
    assert f"expected {'0' * 64}; it is not the pinned file" in line


def test_a_set_of_which_only_an_md5_is_known(offer: Offer, tmp_path: Path) -> None:
    file = pack_zip(offer.folder, IMAGES)
    offer(file, checksum="md5:" + hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest())
    assert fetch_archive("set", tmp_path / "out") == 3
    shutil.rmtree(tmp_path / "out")
    offer(file, checksum="md5:" + "0" * 32)
    assert f"expected {'0' * 32}; it is not the pinned file" in refused(tmp_path)


def test_photos_of_people_with_numbered_masks_go_straight_into_a_run(offer: Offer, tmp_path: Path) -> None:
    """An archive that is laid out as PennFudanPed.zip is."""
    scenes = write_numbered(tmp_path / "scenes", 24)
    members = {"set/readme.txt": b"about", "set/added-object-list.txt": b"", "README": b"outside"}
    for photo in (scenes / "images").iterdir():
        name = f"FudanPed{int(photo.stem):05d}"
        members[f"set/PNGImages/{name}.png"] = as_png(photo)
        members[f"set/PedMasks/{name}_mask.png"] = (scenes / "masks" / f"{photo.stem}.png").read_bytes()
        members[f"set/Annotation/{name}.txt"] = b"# Compatible with PASCAL Annotation Version 1.00"
    archive = replace(offer(pack_zip(offer.folder, members)), task="instances")
    offer.monkeypatch.setattr(public_datasets, "ARCHIVES", {"set": archive})
    app = public_datasets.typer.Typer()
    app.command()(public_datasets.main)
    found = CliRunner().invoke(app, ["set", "--out", str(tmp_path / "people")])
    assert found.output.endswith(f"next: graft run {tmp_path / 'people'} --params validate_data.task=instances\n")
    page = tmp_path / "page"
    checked = CliRunner().invoke(
        graft,
        ["validate", str(tmp_path / "people"), "--params", "validate_data.task=instances", "--out", str(page)],
    )
    assert checked.exit_code == 0, checked.output
    assert "24 images" in checked.output
    assert "masks/" not in checked.output


def test_truncated_transfer(offer: Offer, tmp_path: Path) -> None:
    file = pack_tgz(offer.folder, IMAGES)
    archive = offer(file, url=f"{offer.server}/cut/{file.name}")
    assert f"set: cannot download {archive.url} (" in refused(tmp_path)


def test_another_size(offer: Offer, tmp_path: Path) -> None:
    file = pack_zip(offer.folder, IMAGES)
    offer(file, size=file.stat().st_size + 1)
    assert re.search(r"has [\d,]+ bytes, expected [\d,]+; try again later", refused(tmp_path))
    offer(file, size=10)
    assert "more than the expected 10 bytes; not the pinned file" in refused(tmp_path)


def test_no_such_page(offer: Offer, tmp_path: Path) -> None:
    offer(pack_zip(offer.folder, IMAGES), url=f"{offer.server}/gone.zip")
    assert "(the server answered 404 File not found); check the network, or fetch the file elsewhere and give it: " in (
        line := refused(tmp_path)
    )
    assert line.endswith("python -m graft.data.public_datasets set --file gone.zip")


def test_no_server(offer: Offer, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    offer(pack_zip(offer.folder, IMAGES), url=f"http://127.0.0.1:{port}/set.zip")
    assert f"set: cannot download http://127.0.0.1:{port}/set.zip (Connection refused); check the network" in refused(
        tmp_path
    )


def test_server_that_does_not_answer(offer: Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public_datasets, "TIMEOUT_SECONDS", (0.2, 0.2))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        offer(pack_zip(offer.folder, IMAGES), url=f"http://127.0.0.1:{silent.getsockname()[1]}/set.zip")
        assert "(timed out)" in refused(tmp_path)


def test_hostile_archive_leaves_nothing(offer: Offer, tmp_path: Path) -> None:
    offer(pack_zip(offer.folder, {"set/1.png": b"x", "../up.png": b"x"}))
    assert "leads out of the folder" in refused(tmp_path)


def test_archive_fetched_by_other_means(offer: Offer, tmp_path: Path) -> None:
    file = pack_zip(offer.folder, IMAGES)
    offer(file, url="http://127.0.0.1:9/set.zip")
    assert fetch_archive("set", tmp_path / "out", file) == 3
    assert file.exists()
    with pytest.raises(DataError, match=r"none\.zip: no such file; expected the archive from http"):
        fetch_archive("set", tmp_path / "other", tmp_path / "none.zip")


def test_unknown_name(tmp_path: Path) -> None:
    assert refused(tmp_path, "tulips") == f"tulips: no such archive; known: {KNOWN}"


def test_catalogue() -> None:
    for archive in ARCHIVES.values():
        assert re.fullmatch("sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", archive.checksum)
        assert urlsplit(archive.url).scheme == "https"
        assert archive.bytes > 1_000_000
        assert archive.root
        assert archive.note


def test_command(offer: Offer, tmp_path: Path) -> None:
    app = public_datasets.typer.Typer()
    app.command()(public_datasets.main)
    offer(pack_zip(offer.folder, IMAGES))
    for said in ("3 files; free\nnext: graft run ", "is there already; remove it to fetch it again"):
        result = CliRunner().invoke(app, ["set", "--out", str(tmp_path / "out")])
        assert result.exit_code == 0
        assert said in result.output


def test_command_fails_with_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "graft.data.public_datasets", "tulips"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == f"tulips: no such archive; known: {KNOWN}\n"
