"""Push the steps' images and print their references by digest: `python -m components.push --registry host/team`.

A tag can be moved to other content, a digest cannot. The digest is known only after the push, so this command writes
the lines for a profile.
"""

import json
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from components.image import NAME, TAG
from graft.core.atomic import write_text
from graft.core.errors import GraftError

TARGETS = ("data", "torch")


def digest_reference(repository: str, known: Iterable[str]) -> str:
    """Return the reference to `repository` among an image's `RepoDigests`.

    Raises:
        GraftError: if there is none, because the image has not been pushed there.
    """
    for reference in known:
        if reference.startswith(f"{repository}@sha256:"):
            return reference
    raise GraftError(f"{repository}: the container engine has no digest for it; it has not been pushed there")


def profile_lines(references: Mapping[str, str]) -> str:
    """Return the section `images` of a profile from references by digest, keyed by the Dockerfile's target."""
    lines = [f"  {target}: {reference}" for target, reference in references.items()]
    return "\n".join(["images:", *lines, "  digests_only: true", ""])


def push(registry: str, tag: str, docker: str = "docker") -> dict[str, str]:
    """Push both images and return their references by digest.

    Args:
        registry: host and path before the images' names.
        tag: the tag of the built images.
        docker: command of the container engine.

    Raises:
        GraftError: if there is no such image or the push fails.
    """
    references = {}
    for target in TARGETS:
        repository = f"{registry.rstrip('/')}/{NAME}-{target}"
        if _run(docker, "push", f"{repository}:{tag}").returncode:
            raise GraftError(f"{repository}:{tag}: push failed; make images REGISTRY={registry} TAG={tag} builds it")
        found = _run(
            docker, "image", "inspect", "--format", "{{json .RepoDigests}}", f"{repository}:{tag}", capture=True
        )
        references[target] = digest_reference(repository, json.loads(found.stdout))
    return references


def main(
    registry: Annotated[str, typer.Option(help="host and path before the images' names")],
    tag: Annotated[str, typer.Option(help="tag of the built images")] = TAG,
    docker: Annotated[str, typer.Option(help="command of the container engine")] = "docker",
    out: Annotated[Path, typer.Option(help="file for the lines")] = Path("outputs/images/digests.yaml"),
) -> None:
    """Push both images; print their references for a profile, and write them to a file."""
    try:
        lines = profile_lines(push(registry, tag, docker))
        write_text(out, lines)
    except GraftError as error:
        raise SystemExit(str(error)) from error
    print(f"\n{lines}\n{out}: the lines above, for a profile")


def _run(*command: str, capture: bool = False) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE if capture else None)
    except OSError as error:
        raise GraftError(f"{command[0]}: no such command; set DOCKER to the container engine's") from error


if __name__ == "__main__":
    typer.run(main)
