"""The commands around a project: `init`, `demo`, `report`, `ui` and `sync`."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipelines.arguments import one_line_errors


def init(
    folder: Annotated[Path, typer.Argument(help="the project, which may hold your images already")] = Path(),
) -> None:
    """Lay a project beside your images: params.yaml, dvc.yaml, Makefile, .gitignore and a CI workflow.

    Files that exist are left as they are.
    """
    with one_line_errors():
        from pipelines.project import lay_project

        made, kept, images = lay_project(folder)
        for name in made:
            print(f"made  {folder / name}")
        for name in kept:
            print(f"kept  {folder / name}, which was there already")
        print(f"next  cd {folder} && graft run" + ("" if images else " YOUR_IMAGES"))


def sync() -> None:
    """Tell MLflow what it could not take while it was gone."""
    with one_line_errors():
        from graft.runs import undelivered
        from graft.runs.mlflow_store import tracking_uri

        delivered, problems = undelivered.deliver(tracking_uri())
        print(f"{delivered} records of steps delivered")
        if problems:
            raise SystemExit("\n".join(problems))


def ui(port: Annotated[int, typer.Option(help="port on this machine", min=1, max=65535)] = 5000) -> None:
    """Open MLflow's web interface with all runs and models."""
    with one_line_errors():
        from graft.runs.mlflow_store import open_client, tracking_uri

        uri = tracking_uri()
        open_client(uri)
        command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--port", str(port)]
        raise SystemExit(subprocess.run(command, check=False).returncode)
