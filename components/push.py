"""Push the steps' images and say what they are called by digest: `python -m components.push --registry host/team`.

A tag may be moved to other content, a digest cannot. A registry gives an image its digest when it is pushed, so this is
where a profile's lines come from.
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
    """Return the reference of an image in `repository` among those that the engine knows (`RepoDigests`).

    Raises:
        GraftError: if there is none, as before the image was pushed there.
    """
    for reference in known:
        if reference.startswith(f"{repository}@sha256:"):
            return reference
    raise GraftError(f"{repository}: the engine knows no digest of it; it has not been pushed there")


def profile_lines(references: Mapping[str, str]) -> str:
    """Return the section `images` of a profile for references by digest, by the Dockerfile's target."""
    lines = [f"  {target}: {reference}" for target, reference in references.items()]
    return "\n".join(["images:", *lines, "  digests_only: true", ""])


def push(registry: str, tag: str, docker: str = "docker") -> dict[str, str]:
    """Push both images and return their references by digest.

    Args:
        registry: host and path before the images' names.
        tag: they were built with.
        docker: the engine's command.

    Raises:
        GraftError: if there is no such image or the registry does not take it.
    """
    references = {}
    for target in TARGETS:
        repository = f"{registry.rstrip('/')}/{NAME}-{target}"
        if _called(docker, "push", f"{repository}:{tag}").returncode:
            raise GraftError(f"{repository}:{tag}: not pushed; make images REGISTRY={registry} TAG={tag} builds it")
        found = _called(
            docker, "image", "inspect", "--format", "{{json .RepoDigests}}", f"{repository}:{tag}", kept=True
        )
        references[target] = digest_reference(repository, json.loads(found.stdout))
    return references


def main(
    registry: Annotated[str, typer.Option(help="host and path before the images' names")],
    tag: Annotated[str, typer.Option(help="they were built with")] = TAG,
    docker: Annotated[str, typer.Option(help="the engine's command")] = "docker",
    out: Annotated[Path, typer.Option(help="where the lines go")] = Path("outputs/images/digests.yaml"),
) -> None:
    """Push both images; print what a profile calls them, and write it to a file."""
    try:
        lines = profile_lines(push(registry, tag, docker))
        write_text(out, lines)
    except GraftError as error:
        raise SystemExit(str(error)) from error
    print(f"\n{lines}\n{out}: these lines, for a profile")


def _called(*command: str, kept: bool = False) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE if kept else None)
    except OSError as error:
        raise GraftError(f"{command[0]}: no such command; name the engine's by DOCKER") from error


if __name__ == "__main__":
    typer.run(main)
