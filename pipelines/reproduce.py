"""Run a recorded run again, from what MLflow knows of it, and compare the digests of what comes out.

The record has the git revision, the parameters, and the digests of the data and of the model. The same revision is
checked out beside this one if it differs; the results and their records go to a folder and a store of their own.
"""

import ast
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from graft.core.errors import GraftError
from graft.params.params import Params
from graft.params.section import Section
from graft.runs.git_revision import REVISION_TAG, git_revision
from graft.runs.live_log import DATA_TAG
from graft.runs.mlflow_store import find_run, open_client
from pipelines.arguments import one_line_errors

COMPARED = ("data.digest", "weights.digest", "code.digest", "test.accuracy")
PATHS = ("source", "weights", "reference", "expectations")
DIRTY = "-dirty"
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class RecordedRun:
    """What MLflow knows of a pipeline's run."""

    run_id: str
    revision: str
    """Of git, with `-dirty` if files were changed; empty if it is not known."""
    params: Mapping[str, Mapping[str, Any]]
    """By section; only fields that this version of Graft has."""
    digests: Mapping[str, str]
    """Of the data, and of the registered model if there is one."""

    @classmethod
    def read(cls, run_id: str, uri: str | None = None) -> "RecordedRun":
        """Read the record of a pipeline's run.

        Raises:
            GraftError: if there is no such run, or it is not of a training pipeline.
        """
        client = open_client(uri)
        run = find_run(client, run_id)
        if run is None:
            raise GraftError(f"RUN={run_id}: MLflow knows no such run; make ui shows them")
        params = sections_of(run.data.params)
        if not params.get("get_data"):
            raise GraftError(f"RUN={run_id}: not the run of a training pipeline; name the parent of its steps")
        return cls(run_id, run.data.tags.get(REVISION_TAG, ""), params, digests_of(client, run_id))


def sections_of(texts: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the values of the fields that were recorded as `section.field`; what steps decided is left out."""
    found: dict[str, dict[str, Any]] = {}
    for name, section in Params.model_fields.items():
        kind = section.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            own = {key.removeprefix(f"{name}."): text for key, text in texts.items() if key.startswith(f"{name}.")}
            found[name] = _fields(kind, own)
    return found


def _fields(kind: type[Section], texts: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field, info in kind.model_fields.items():
        inner = {key.removeprefix(f"{field}."): text for key, text in texts.items() if key.startswith(f"{field}.")}
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            values[field] = _fields(info.annotation, inner)
        elif field in texts:
            text = texts[field]
            plain = info.annotation in (str, str | None)  # a label may be 7, and is no number
            values[field] = (None if text == "None" and info.annotation is not str else text) if plain else _value(text)
        elif inner:  # a mapping; what a step decided may stand below a field that is none, such as `backbone.groups`
            values[field] = {key: _value(text) if text.startswith(("(", "[")) else text for key, text in inner.items()}
    return values


def _value(text: str) -> Any:
    """Return the value whose text Python wrote."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def digests_of(client: Any, run_id: str) -> dict[str, str]:
    """Return the digests of a pipeline run's data and of the model that it registered."""
    run = client.get_run(run_id)
    found = {"data.digest": run.data.tags[DATA_TAG]} if DATA_TAG in run.data.tags else {}
    for version in client.search_model_versions(f"tags.`pipeline.run_id` = '{run_id}'"):
        found |= {name: version.tags[name] for name in COMPARED if name in version.tags}
    return found


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """Yield a folder with this revision: the working folder, if it is the same, or a temporary one.

    Raises:
        GraftError: if git does not know the revision.
    """
    wanted = revision.removesuffix(DIRTY)
    if not wanted or wanted == (git_revision() or "").removesuffix(DIRTY):
        yield Path.cwd()
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "revision"
        done = subprocess.run(
            ["git", "worktree", "add", "--detach", str(folder), wanted], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise GraftError(f"git knows no revision {wanted}: fetch it first ({done.stderr.strip().splitlines()[-1]})")
        try:
            yield folder
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(folder)], capture_output=True, check=False)


@app.command()
def reproduce(
    run: Annotated[str, typer.Argument(help="id of a pipeline's run in MLflow")],
    out: Annotated[Path, typer.Option(help="folder for the results")] = Path("outputs/reproduced"),
) -> None:
    """Run a recorded run again, and compare data, weights, code and accuracy."""
    with one_line_errors():
        record = RecordedRun.read(run)
        if record.revision.endswith(DIRTY):
            print("the files of its revision were changed, and git does not know how: expect other digests")
        found = run_again(record, out.absolute())
        same = show(record.digests, found)
    raise SystemExit(0 if same else 1)


def run_again(record: RecordedRun, out: Path) -> dict[str, str]:
    """Run the pipeline with the recorded parameters and code; return its digests.

    Raises:
        GraftError: if the run fails; its last line says why.
    """
    out.mkdir(parents=True, exist_ok=True)
    uri = f"sqlite:///{out}/mlflow.db"
    with checked_out(record.revision) as folder:
        environment = os.environ | {"MLFLOW_TRACKING_URI": uri, "GRAFT_CACHE": "off", "PYTHONPATH": str(folder)}
        command = [sys.executable, "-m", "pipelines.cli", "run", "--params", overrides(record.params)]
        command += ["--out", str(out / "results")]
        done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise GraftError(f"{record.run_id}: the run failed again; see above and {out / 'results' / 'run.log'}")
    client = open_client(uri)
    run_id = json.loads((out / "results" / "summary.json").read_text(encoding="utf-8"))["mlflow"]["run_id"]
    return digests_of(client, run_id)


def overrides(params: Mapping[str, Mapping[str, Any]]) -> str:
    """Return parameters as a line of overrides; paths are absolute, since another folder may be the working folder."""
    words = []
    for section, fields in params.items():
        for field, value in fields.items():
            local = isinstance(value, str) and field in PATHS and not params["get_data"].get("repo")
            settled = str(Path(value).absolute()) if local and Path(value).exists() else value
            words.append(shlex.quote(f"{section}.{field}={json.dumps(settled)}"))  # JSON is YAML
    return " ".join(words)


def show(before: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Print what is equal and what is not; return whether all is."""
    same = True
    for name in COMPARED:
        if name in before or name in now:
            equal = before.get(name) == now.get(name)
            same &= equal
            was, is_now = before.get(name, "none")[:16], now.get(name, "none")[:16]
            print(f"{name:16} {'equal  ' if equal else 'DIFFERS'}  {was if equal else f'{was} -> {is_now}'}")
    print("reproduced" if same else "not reproduced")
    return same


if __name__ == "__main__":
    app()
