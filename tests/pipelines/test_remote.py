"""The whole pipeline with remote storage: data on S3 through DVC, runs and models on an MLflow server with passwords.

Both servers run on loopback. `test_s3.py` tests DVC on S3 by itself.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from graft import load
from graft.core.errors import GraftError
from graft.runs.mlflow_store import open_client
from tests.support.mlflow_server import ADMIN, add_user, mlflow_server
from tests.support.pictures import picture

pytest.importorskip("dvc_s3", reason="dvc-s3 is not installed: pip install -e '.[test]'")
moto_server = pytest.importorskip("moto.server", reason="moto is not installed: pip install -e '.[test]'")
pytestmark = pytest.mark.slow

USER, PASSWORD = "steps", "s3cr3t-of-the-steps"
KEY, SECRET = "KEY0OF0THE0TEST", "s3cr3t-of-the-bucket"
SECRETS = (PASSWORD, KEY, SECRET, ADMIN[1])
IMAGES, ARTIFACTS = "image-sets", "artifacts"
QUICK = (
    "extract_features.image_size=32 train_head.reuse_depth=last train_head.folds=2 fine_tune.enabled=false "
    "fine_tune.refit=false evaluate.bootstrap=100 evaluate.explain=false evaluate.learning_curve=false "
    "evaluate.random_init=false"
)


@dataclass(frozen=True)
class Place:
    """The servers, and a git repository whose images are only on S3."""

    mlflow: str
    s3: Any
    repo: str
    state: Path
    """Folder of the MLflow server's databases and its log."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    import boto3

    folder = tmp_path_factory.mktemp("remote")
    s3 = moto_server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    s3.start()
    endpoint = "http://{}:{}".format(*s3.get_host_and_port())
    variables = {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none"),
        "AWS_CONFIG_FILE": str(folder / "none"),
    }
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
                patch.delenv(name, raising=False)
            for name, value in variables.items():
                patch.setenv(name, value)
            client = boto3.client("s3", endpoint_url=endpoint)
            for bucket in (IMAGES, ARTIFACTS):
                client.create_bucket(Bucket=bucket)
            repo = published(folder / "repo", endpoint)
            to_artifacts = {"MLFLOW_S3_ENDPOINT_URL": endpoint}
            with mlflow_server(folder / "server", f"s3://{ARTIFACTS}", to_artifacts) as mlflow:
                add_user(mlflow, folder / "server", USER, PASSWORD)
                yield Place(mlflow, client, repo, folder / "server")
    finally:
        s3.stop()


@pytest.fixture(autouse=True)
def logged_in(place: Place, no_outside_store: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place.mlflow)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)


def published(repo: Path, endpoint: str) -> str:
    from dvc.cli import main as dvc

    for split, count in {"train": 16, "test": 8}.items():
        for label, name in enumerate(("cat", "dog")):
            (repo / "photos" / split / name).mkdir(parents=True)
            for number in range(count):
                picture(label, number + 100 * count).save(repo / "photos" / split / name / f"{number}.png")
    with chdir(repo):
        git("init", "-q", "-b", "main")
        for command in (
            ["init", "-q"],
            ["remote", "add", "-q", "-d", "storage", f"s3://{IMAGES}/dvc"],
            ["remote", "modify", "-q", "storage", "endpointurl", endpoint],
            ["add", "-q", "photos"],
            ["push", "-q"],
        ):
            assert dvc(command) == 0
        git("add", "-A")
        git("-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "-qm", "photos")
        git("tag", "v1")
    shutil.rmtree(repo / "photos")
    shutil.rmtree(repo / ".dvc" / "cache")
    return f"file://{repo}"


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True, capture_output=True)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pipelines.cli", *arguments]


def holders(contents: dict[str, bytes]) -> list[tuple[str, str]]:
    """Return the names of the contents in which a secret occurs, with the secret."""
    return [(name, secret) for name, content in contents.items() for secret in SECRETS if secret.encode() in content]


def objects(place: Place, bucket: str) -> dict[str, bytes]:
    pages = place.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    return {f"s3://{bucket}/{key}": place.s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_from_a_bucket_to_a_champion_and_no_secret_left_anywhere(place: Place, root: Path, tmp_path: Path) -> None:
    params = f"get_data.repo={place.repo} get_data.rev=v1 get_data.source=photos {QUICK}"
    compiled, out = tmp_path / "training.yaml", tmp_path / "out"
    # Not in the repository: a run remembers its model in the folder where it was started.
    own = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(root)}, "text": True}
    subprocess.run(
        command("compile", "--params", params, "--profile", "k8s", "--out", str(compiled)), check=True, **own
    )
    done = subprocess.run(
        command("run", "--params", params, "--out", str(out)), capture_output=True, check=False, **own
    )
    assert done.returncode == 0, done.stderr[-3000:]

    summary = json.loads((out / "summary.json").read_text())
    assert summary["metrics"]["test"]["accuracy"]["value"] >= 0.9
    assert summary["mlflow"]["tracking_uri"] == place.mlflow
    kept = objects(place, ARTIFACTS)
    assert any(name.endswith("report.html") for name in kept)
    assert len(load("models:/graft-photos@champion").predict([picture(0, 1), picture(1, 1)])) == 2

    output = {"stdout": done.stdout.encode(), "stderr": done.stderr.encode()}
    searched = output | kept | files(tmp_path) | files(place.state) | objects(place, IMAGES)
    assert str(compiled) in searched
    assert holders(searched) == []


def test_without_the_password_it_is_one_line(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong-" + PASSWORD)
    with pytest.raises(GraftError) as error:
        open_client()
    assert str(error.value).startswith(f"MLflow at {place.mlflow} cannot be used")
    assert "\n" not in str(error.value)
    assert PASSWORD not in str(error.value)


def test_the_server_answers_under_its_name_alone(place: Place) -> None:
    url = f"{place.mlflow}/api/2.0/mlflow/experiments/search?max_results=1"
    assert requests.get(url, auth=(USER, PASSWORD), timeout=30).status_code == 200
    assert requests.get(url, auth=(USER, PASSWORD), headers={"Host": "elsewhere"}, timeout=30).status_code == 403
    assert requests.get(url, timeout=30).status_code == 401
