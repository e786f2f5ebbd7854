"""A DVC remote on an S3 server on loopback, set up with the commands of docs/data-versions.md."""

import contextlib
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dvc.cli import main as dvc_command

KEY = "key-of-the-test"
SECRET = "s3cr3t-of-the-test"
BUCKET = "image-sets"


@dataclass(frozen=True)
class Published:
    """A git repository whose images, tracked at data/photos, are on S3 and nowhere else; and their bytes."""

    url: str
    original: Path


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Run a server for a while; give its address."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def credentials(nowhere: Path) -> dict[str, str]:
    """Return the environment of somebody who may use the server; `nowhere` is a file that does not exist."""
    return {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": str(nowhere),
        "AWS_CONFIG_FILE": str(nowhere),
    }


def publish(folder: Path, endpoint: str) -> Published:
    """Put three files under DVC, push them to S3, tag the version, and remove every local copy but `original`."""
    import boto3

    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=BUCKET)
    repo = folder / "repo"
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        (repo / "data/photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (repo / "data/photos" / name).write_bytes(name.encode() * 1000)
    for command in (
        "git init -q -b main",
        "git config user.name A",
        "git config user.email a@example.org",
        "dvc init -q",
        "dvc add -q data/photos",
        "git add -A",
        "git commit -qm photos",
        *_documented(endpoint),
        "git tag photos-1",
    ):
        run(command, repo)
    shutil.copytree(repo / "data/photos", folder / "original")
    shutil.rmtree(repo / "data/photos")
    shutil.rmtree(repo / ".dvc/cache")
    return Published(f"file://{repo}", folder / "original")


def _documented(endpoint: str) -> list[str]:
    """Return the commands of the page's section on S3, for the server at `endpoint`."""
    page = (Path(__file__).parents[2] / "docs" / "data-versions.md").read_text(encoding="utf-8")
    section = page.split("## Share them through S3")[1]
    commands = section.split("```sh\n")[1].split("```")[0].replace("https://minio.example.org", endpoint)
    assert "dvc push" in commands
    return commands.splitlines()


def run(command: str, folder: Path) -> None:
    """Run git or DVC in a folder."""
    tool, *arguments = shlex.split(command)
    if tool == "dvc":  # in this process: starting Python and DVC costs a second each time
        with contextlib.chdir(folder):
            assert dvc_command(arguments) == 0
    else:
        subprocess.run([tool, *arguments], cwd=folder, check=True, capture_output=True)
