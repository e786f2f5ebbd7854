"""Commands that talk to a Kubeflow Pipelines server.

The server's URL comes from --host or KF_PIPELINES_ENDPOINT, the token only from GRAFT_KFP_TOKEN: other users of the
machine can see command lines.
"""

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from graft.core.errors import ParamsError
from graft.params.get_data import GetDataParams
from pipelines.arguments import Overrides, one_line_errors
from pipelines.batch_arguments import BatchParams
from pipelines.cluster.submission import (
    AnyParams,
    Data,
    Model,
    Pipeline,
    PipelineName,
    check_source,
    is_default,
    load_arguments,
    pin_data,
)
from pipelines.update_arguments import UpdateParams

if TYPE_CHECKING:
    from pipelines.cluster.client import Cluster

TOKEN = "GRAFT_KFP_TOKEN"

Host = Annotated[str, typer.Option(envvar="KF_PIPELINES_ENDPOINT", help="URL of the Kubeflow Pipelines server")]
Namespace = Annotated[str | None, typer.Option(help="your namespace, on a server with several users")]
ProfileName = Annotated[str, typer.Option(help="a cluster's settings: a name or a file")]
Experiment = Annotated[str, typer.Option(help="experiment in Kubeflow; default: graft, or graft-<pipeline>")]
Root = Annotated[
    str | None, typer.Option("--pipeline-root", help="where artifacts are stored, such as s3://bucket/path")
]
Account = Annotated[str | None, typer.Option(help="service account of Kubernetes")]
Cache = Annotated[bool | None, typer.Option("--cache/--no-cache", help="override the profile's setting")]
RunId = Annotated[str, typer.Argument(help="the run's id")]


def compile_pipeline(
    pipeline: Pipeline = PipelineName.TRAINING,
    params: Overrides = "",
    data: Data = "",
    model: Model = "",
    profile: Annotated[str, typer.Option(help="a cluster's settings: a name or a file; default: no settings")] = "",
    native: Annotated[bool, typer.Option(help="write Kubernetes objects, not KFP's IR")] = False,
    namespace: Annotated[str | None, typer.Option(help="of the Kubernetes objects")] = None,
    version: Annotated[str | None, typer.Option(help="name of the PipelineVersion; new for each change")] = None,
    out: Annotated[Path | None, typer.Option(help="the file to write; default: outputs/<pipeline>.yaml")] = None,
) -> None:
    """Compile a pipeline for Kubeflow, with the parameters as its defaults."""
    with one_line_errors():
        from pipelines.cluster.compiled import write_pipeline
        from pipelines.cluster.profile import Profile

        settled, digest = pin_data(load_arguments(pipeline, params, data, model))
        if not is_default(settled):
            check_source(settled)
        settings = Profile.load(profile) if profile else None
        file = out or Path("outputs") / f"{pipeline}.yaml"
        write_pipeline(
            file, settled, profile=settings, data_digest=digest, native=native, namespace=namespace, version=version
        )
        print(f"{file}: the pipeline for Kubeflow")
        if is_default(settled):
            print(f"get_data.source={GetDataParams().source}: only this machine has it; set source when a run starts")


def submit(
    host: Host,
    pipeline: Pipeline = PipelineName.TRAINING,
    params: Overrides = "",
    data: Data = "",
    model: Model = "",
    profile: ProfileName = "k8s",
    experiment: Experiment = "",
    name: Annotated[str, typer.Option(help="of the run; default: date and time")] = "",
    namespace: Namespace = None,
    pipeline_root: Root = None,
    service_account: Account = None,
    cache: Cache = None,
    if_new_data: Annotated[
        bool, typer.Option("--if-new-data", help="only if no run has used this data version")
    ] = False,
) -> None:
    """Start a run on a cluster."""
    with one_line_errors(), tempfile.TemporaryDirectory() as folder:
        settled, digest = pin_data(_require_images(load_arguments(pipeline, params, data, model)))
        cluster = _connect(host, namespace)
        experiment = experiment or _default_name(pipeline)
        description = _run_description(settled, digest)
        if if_new_data:
            if description is None:
                raise SystemExit("--if-new-data: get_data.repo is not set; only data tracked by DVC has versions")
            earlier = cluster.find_run(experiment, description)
            if earlier:
                print(f"{earlier}: this run has used the same data version")
                return
        run = cluster.submit(
            _package(Path(folder), settled, profile, digest, cache),
            experiment=experiment,
            name=name or f"{_default_name(pipeline)} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}",
            pipeline_root=pipeline_root,
            service_account=service_account,
            description=description,
        )
        print(run)


def schedule(
    host: Host,
    cron: Annotated[str, typer.Option(help="six fields, seconds first: '0 0 3 * * *' is every day at three")],
    pipeline: Pipeline = PipelineName.TRAINING,
    params: Overrides = "",
    data: Data = "",
    model: Model = "",
    profile: ProfileName = "k8s",
    experiment: Experiment = "",
    name: Annotated[str, typer.Option(help="of the schedule; replaces a schedule of this name")] = "",
    namespace: Namespace = None,
    pipeline_root: Root = None,
    service_account: Account = None,
    cache: Cache = None,
) -> None:
    """Schedule runs on a cluster, each on the latest data."""
    with one_line_errors(), tempfile.TemporaryDirectory() as folder:
        # The data is not pinned: each run of the schedule should use the latest version.
        asked = _require_images(load_arguments(pipeline, params, data, model))
        package = _package(Path(folder), asked, profile, None, cache)
        print(
            _connect(host, namespace).schedule(
                package,
                experiment=experiment or _default_name(pipeline),
                name=name or _default_name(pipeline),
                cron=cron,
                pipeline_root=pipeline_root,
                service_account=service_account,
            )
        )


def status(host: Host, run: RunId, namespace: Namespace = None) -> None:
    """Show the state of a run on a cluster; the exit code is 1 if it failed."""
    with one_line_errors():
        found = _connect(host, namespace).status(run)
        print(f"{found.name}: {found.state}" + (f" ({found.error})" if found.error else ""))
        for task in found.tasks:
            print(f"  {task.name}: {task.state}" + (f" ({task.error})" if task.error else ""))
        if found.state in ("FAILED", "CANCELED"):
            raise SystemExit(1)


def logs(
    host: Host, run: RunId, step: Annotated[str, typer.Argument(help="name of the step")], namespace: Namespace = None
) -> None:
    """Print the output of a step of a run on a cluster."""
    with one_line_errors():
        for text in _connect(host, namespace).logs(run, step):
            print(text, end="")


def cancel(host: Host, run: RunId, namespace: Namespace = None) -> None:
    """Stop a run on a cluster."""
    with one_line_errors():
        _connect(host, namespace).cancel(run)
        print(f"{run}: stop requested")


def _connect(host: str, namespace: str | None) -> "Cluster":
    from pipelines.cluster.client import Cluster

    return Cluster(host, namespace=namespace, token=os.environ.get(TOKEN))


def _require_images(params: AnyParams) -> AnyParams:
    """Raise an error if no images are given, or such that only this machine has."""
    if params.get_data is None:
        raise ParamsError("batch: no images; use --data FOLDER, or --params 'get_data.repo=... get_data.source=...'")
    check_source(params)
    return params


def _default_name(pipeline: PipelineName) -> str:
    return "graft" if pipeline is PipelineName.TRAINING else f"graft-{pipeline}"


def _run_description(params: AnyParams, data_digest: str | None) -> str | None:
    """Return the description by which a later call finds the run: its data and, if it begins with one, its model."""
    if data_digest is None:
        return None
    use = ""
    if isinstance(params, BatchParams):
        use = f" answered by {params.model}"
    elif isinstance(params, UpdateParams):
        use = f" learnt by {params.update_model.model}"
    return f"data digest {data_digest}{use}"


def _package(folder: Path, params: AnyParams, profile: str, data_digest: str | None, cache: bool | None) -> Path:
    from pipelines.cluster.compiled import write_pipeline
    from pipelines.cluster.profile import Profile

    package = folder / "pipeline.yaml"
    chosen = Profile.load(profile)
    if cache is not None:
        chosen = chosen.model_copy(update={"cache": cache})
    write_pipeline(package, params, profile=chosen, data_digest=data_digest)
    return package
