"""Run the training pipeline on this machine with each step in a container, with KFP's DockerRunner.

The steps run as an unprivileged user, without a network, on a read-only root file system.

KFP 2.17 lets the engine remove a container when it ends, and counts a container that is already gone as a success, so
that it sometimes misses a failed step. Here the container stays until its exit code is known.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.core.errors import GraftError
from pipelines.local.progress import Shown
from pipelines.local.runner import run_initialised

IMAGE_USER = 10001
"""User of the images; steps run as this user if root starts them."""
DATA, WEIGHTS = "/data", "/weights"


@dataclass(frozen=True)
class Folder:
    """A folder of this machine and its mount path in the containers."""

    path: Path
    inside: str
    writable: bool = False


def run_in_containers(
    pipeline: Any,
    arguments: Mapping[str, Any],
    steps: list[str],
    root: Path,
    log_file: Path,
    shown: Shown,
    *,
    tracking_uri: str,
    pipeline_run: str,
    folders: Sequence[Folder] = (),
) -> dict[str, Path]:
    """Run the pipeline like `pipelines.local.runner.run_locally`, each step in a container of its image.

    Args:
        pipeline: the training pipeline.
        arguments: its arguments; a local `get_data.source` and weights file are mounted.
        steps: names of its steps in order.
        root: folder for the outputs of the steps.
        log_file: receives every line of output.
        shown: is told what happens.
        tracking_uri: of MLflow; the folder of a database is mounted; with a server the steps use the host's network.
        pipeline_run: the key of the run that all steps share.
        folders: further folders to mount.

    Raises:
        GraftError: with the failing step's one-line cause, or if no engine answers.
    """
    from kfp import local

    arguments, mounted = _mounted(arguments)
    places = [*mounted, *folders, *_store(tracking_uri)]
    for place in [root, *(one.path for one in places if one.writable)]:
        place.mkdir(parents=True, exist_ok=True)
        _make_writable(place)
    environment = {"MLFLOW_TRACKING_URI": tracking_uri, "GRAFT_PIPELINE_RUN": pipeline_run}
    network = "host" if tracking_uri.startswith("http") else "none"
    local.init(_runner(places, environment, network), pipeline_root=str(root), workspace_root=str(root / "workspace"))
    with reliable_exit_codes():
        return run_initialised(pipeline, arguments, steps, root, log_file, shown)


@contextmanager
def reliable_exit_codes() -> Iterator[None]:
    """Make KFP's DockerRunner judge a step by the exit code of its container."""
    from kfp.local import docker_task_handler

    before = docker_task_handler.run_docker_container
    docker_task_handler.run_docker_container = run_container
    try:
        yield
    finally:
        docker_task_handler.run_docker_container = before


def run_container(client: Any, image: str, command: list[str], volumes: Mapping[str, Any], **arguments: Any) -> int:
    """Run a container until it ends, print its output, and return its exit code.

    Raises:
        GraftError: if neither the engine nor a registry has the image.
    """
    import docker

    try:
        # This pulls a missing image.
        container = client.containers.run(image=image, command=command, detach=True, volumes=dict(volumes), **arguments)
    except docker.errors.ImageNotFound as error:
        raise GraftError(f"no image {image}; make images builds it") from error
    except docker.errors.APIError as error:
        if "/images/create" not in str(error):
            raise
        raise GraftError(f"no image {image}, and it cannot be pulled; make images builds it") from error
    try:
        for line in container.logs(stream=True, follow=True):
            print(line.decode(errors="replace"), end="")
        return int(container.wait()["StatusCode"])
    finally:
        container.remove(force=True)


def _runner(folders: Sequence[Folder], environment: Mapping[str, str], network: str) -> Any:
    import docker
    from docker.types import Mount
    from kfp import local

    try:
        with closing(docker.from_env()) as client:
            client.ping()
    except docker.errors.DockerException as error:
        raise GraftError("no container engine answers; start Docker, or set DOCKER_HOST") from error
    user = os.getuid() or IMAGE_USER
    return local.DockerRunner(
        user=f"{user}:{os.getgid() or IMAGE_USER}",
        read_only=True,
        tmpfs={"/tmp": "exec"},
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        network_mode=network,
        mounts=[Mount(one.inside, str(one.path), type="bind", read_only=not one.writable) for one in folders],
        environment=dict(environment),
    )


def _mounted(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], list[Folder]]:
    """Return the arguments with local paths replaced by their mount paths, and the folders to mount."""
    changed = {name: dict(section) for name, section in arguments.items()}
    folders: list[Folder] = []
    for section, field, inside in (("get_data", "source", DATA), ("extract_features", "weights", WEIGHTS)):
        path = Path(changed[section][field]).expanduser()
        if changed[section].get("repo") or not path.exists():
            continue
        folder = path if path.is_dir() else path.parent
        folders.append(Folder(folder.absolute(), inside))
        changed[section][field] = inside if path.is_dir() else f"{inside}/{path.name}"
    return changed, folders


def _store(tracking_uri: str) -> list[Folder]:
    """Return the folder of a tracking database, mounted at its own path: MLflow stores absolute paths."""
    if not tracking_uri.startswith("sqlite:///"):
        return []
    folder = Path(tracking_uri.removeprefix("sqlite:///")).absolute().parent
    return [Folder(folder, str(folder), writable=True)]


def _make_writable(folder: Path) -> None:
    """If this process runs as root, make `folder` writable for the steps, which do not."""
    if os.getuid() == 0:
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, IMAGE_USER, IMAGE_USER, follow_symlinks=False)
