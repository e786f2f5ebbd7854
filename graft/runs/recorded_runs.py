"""Pipeline runs as MLflow records them: found by what a user has at hand, and read with what they evaluated."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.core.atomic import read_json
from graft.core.errors import GraftError
from graft.runs.git_revision import REVISION_TAG
from graft.runs.live_log import STEP_TAG
from graft.runs.mlflow_store import is_on_this_machine, open_existing, tracking_uri, without_password
from graft.runs.registered_files import ADDRESS
from graft.runs.reused import REUSED_TAG

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

SUMMARY_FILE = "summary.json"
_RUN_ID = re.compile(r"[0-9a-f]{32}")
_FORMS = "an output folder, the id or name of a run in MLflow, or models:/name/3"


@dataclass(frozen=True)
class RecordedRun:
    """A run of the pipeline."""

    id: str
    name: str
    started: datetime
    store: str
    """Tracking URI."""
    params: Mapping[str, str]
    """As they were given, by `section.field`."""
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    steps: Mapping[str, str]
    """The MLflow run of each finished step by name; of a step that was not run again, the run in which it ran."""
    seconds: Mapping[str, float]
    """Of each step, in the run in which it ran."""

    @property
    def code(self) -> str:
        """The git revision, with `-dirty` if files had been changed; empty if it is unknown."""
        return self.tags.get(REVISION_TAG, "")

    def download(self, step: str, folder: Path) -> Path:
        """Copy the files that a step recorded into `folder` and return it.

        Raises:
            GraftError: if the run has no such step, or its files cannot be read.
        """
        if step not in self.steps:
            raise GraftError(f"{self.name}: MLflow has no finished step {step} of this run: run it again")
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException

        try:
            return Path(download_artifacts(run_id=self.steps[step], dst_path=str(folder), tracking_uri=self.store))
        except (MlflowException, OSError) as error:
            why = str(error).splitlines()[0]
            raise GraftError(f"{self.name}: the files of {step} cannot be read ({why})") from None


def find_run(reference: str) -> RecordedRun:
    """Return the run that a user means.

    Args:
        reference: an output folder, the id or the name of a run in MLflow, or a registered version such as
            `models:/name/3` or `models:/name@champion`.

    Raises:
        GraftError: if there is no such run, or several have this name.
    """
    folder = Path(reference)
    if (folder / SUMMARY_FILE).is_file():
        uri, run_id = _record(folder / SUMMARY_FILE)
        return _read(open_existing(uri), run_id, uri, reference)
    if folder.is_dir():
        raise GraftError(f"{reference}: no {SUMMARY_FILE} here; name {_FORMS}")
    uri = tracking_uri()
    client = open_existing(uri)
    if ADDRESS.fullmatch(reference):
        return _read(client, _run_of_version(client, reference), uri, reference)
    run_id = reference if _RUN_ID.fullmatch(reference) else _run_of_name(client, reference, uri)
    return _read(client, run_id, uri, reference)


def _record(file: Path) -> tuple[str, str]:
    """Return where the run of a summary is recorded: tracking URI and id.

    A folder may come from somebody else. MLflow logs in to whatever server it is told of, so a summary cannot name one
    that the user does not use.
    """
    known = read_json(file)
    place = known.get("mlflow") if isinstance(known, dict) else None
    if not isinstance(place, dict) or not all(isinstance(place.get(key), str) for key in ("tracking_uri", "run_id")):
        raise GraftError(f"{file}: does not say where its run is recorded; run it again")
    uri = place["tracking_uri"]
    if uri != tracking_uri() and not is_on_this_machine(uri):
        raise GraftError(
            f"{file}: its run is recorded at {without_password(uri)}, which is not the store in use; "
            f"if you trust it, set MLFLOW_TRACKING_URI={without_password(uri)}"
        )
    return uri, place["run_id"]


def _read(client: "MlflowClient", run_id: str, uri: str, reference: str) -> RecordedRun:
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
        if parent := run.data.tags.get("mlflow.parentRunId"):
            run = client.get_run(parent)
    except MlflowException:
        raise GraftError(f"{reference}: no such run in {without_password(uri)}") from None
    steps = _steps(client, run)
    return RecordedRun(
        run.info.run_id,
        run.info.run_name or run.info.run_id,
        datetime.fromtimestamp(run.info.start_time / 1000, UTC),
        uri,
        run.data.params,
        run.data.metrics,
        run.data.tags,
        {name: step.info.run_id for name, step in steps.items()},
        {name: step.data.metrics["seconds"] for name, step in steps.items() if "seconds" in step.data.metrics},
    )


def _steps(client: "MlflowClient", run: "Run") -> dict[str, "Run"]:
    """Return the runs of the pipeline's steps, the latest of each, with those of steps that were not run again."""
    found: dict[str, Any] = {
        name.removeprefix(REUSED_TAG): client.get_run(value)
        for name, value in run.data.tags.items()
        if name.startswith(REUSED_TAG)
    }
    own = client.search_runs(
        [run.info.experiment_id],
        filter_string=f"tags.mlflow.parentRunId = '{run.info.run_id}' and attributes.status = 'FINISHED'",
        order_by=["attributes.start_time ASC"],
    )
    return found | {step.data.tags[STEP_TAG]: step for step in own if STEP_TAG in step.data.tags}


def _run_of_version(client: "MlflowClient", address: str) -> str:
    from mlflow.exceptions import MlflowException

    found = ADDRESS.fullmatch(address)
    assert found is not None
    try:
        number = found["number"] or client.get_model_version_by_alias(found["name"], found["alias"]).version
        return str(client.get_model_version(found["name"], str(number)).run_id)
    except MlflowException:
        raise GraftError(f"{address}: no such registered model") from None


def _run_of_name(client: "MlflowClient", name: str, uri: str) -> str:
    quoted = name.replace("'", "")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(experiments, filter_string=f"attributes.run_name = '{quoted}'", max_results=2)
    if len(found) > 1:
        raise GraftError(f"{name}: several runs in {without_password(uri)} have this name; give the id of one")
    if not found:
        raise GraftError(f"{name}: not found in {without_password(uri)}; name {_FORMS}")
    return str(found[0].info.run_id)
